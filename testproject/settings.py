"""
Settings of the test project: users and sessions in SQLite, documents in MongoDB.

Environment variables choose the places: `MONGODB_URI` (best a replica set), `TESTPROJECT_DATABASE` (for a URI that
names no database), `TESTPROJECT_SQLITE` (a file) and `CELERY_BROKER_URL`; `TESTPROJECT_DELIVERY` how versions are stored.
Everything else is what a small Django site has anyway.
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent

MONGODB_URI = os.environ.get("MONGODB_URI", "mongodb://127.0.0.1:27017/airports")
MONGODB_DATABASE = os.environ.get("TESTPROJECT_DATABASE", "airports")

DEBUG = True
# Good for a site that only this machine can see; give a real one where others can.
SECRET_KEY = os.environ.get("TESTPROJECT_SECRET_KEY", "only-for-the-test-project-on-this-machine")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "testproject.airports",
    "django_mongo_history",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_mongo_history.middleware.HistoryMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TRACKED_DOCUMENTS = [
    "testproject.airports.documents.Airport",
    "testproject.airports.documents.Country",
]

MONGO_HISTORY = {"DELIVERY": os.environ.get("TESTPROJECT_DELIVERY", "auto")}

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("TESTPROJECT_SQLITE") or BASE_DIR / "db.sqlite3",
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

ROOT_URLCONF = "testproject.urls"
WSGI_APPLICATION = "testproject.wsgi.application"
ASGI_APPLICATION = "testproject.asgi.application"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "airports:list"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en"
