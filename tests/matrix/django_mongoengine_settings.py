"""A site as django-mongoengine describes it: users, sessions and documents in MongoDB, and no SQL database."""

import os

MONGODB_DATABASES = {
    "default": {
        "name": "site",
        "host": os.environ.get("MONGODB_URI", "mongodb://127.0.0.1:1/"),
        "uuidRepresentation": "standard",
        "tz_aware": True,
    }
}
DATABASES = {"default": {"ENGINE": "django.db.backends.dummy"}}

SECRET_KEY = "only-for-this-suite"
ALLOWED_HOSTS = ["testserver"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django_mongoengine",
    "django_mongoengine.mongo_auth",
    "django_mongo_history",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_mongo_history.middleware.HistoryMiddleware",
]
AUTH_USER_MODEL = "mongo_auth.MongoUser"
AUTHENTICATION_BACKENDS = ["django_mongoengine.mongo_auth.backends.MongoEngineBackend"]
MONGOENGINE_USER_DOCUMENT = "django_mongoengine.mongo_auth.models.User"
SESSION_ENGINE = "django_mongoengine.sessions"
SESSION_SERIALIZER = "django_mongoengine.sessions.BSONSerializer"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the slow ones prove nothing here
ROOT_URLCONF = "tests.matrix.suite_of_django_mongoengine"
TRACKED_DOCUMENTS = []
