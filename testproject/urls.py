"""The site's addresses: the airports at the root, Django's admin beside them."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("testproject.airports.urls")),
]
