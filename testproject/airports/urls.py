"""The app's addresses."""

from django.urls import path

from testproject.airports import views

app_name = "airports"

urlpatterns = [
    path("", views.airport_list, name="list"),
    path("as-of/", views.airports_as_of, name="as-of"),
    path("airports/<str:icao>/", views.airport_history, name="history"),
    path("airports/<str:icao>/edit/", views.airport_edit, name="edit"),
    path("airports/<str:icao>/versions/<int:number>/", views.airport_version, name="version"),
    path("airports/<str:icao>/versions/<int:number>/revert/", views.airport_revert, name="revert"),
]
