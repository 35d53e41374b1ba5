"""
The site: airports, the history of each, a form to change one, and all of them as of a moment.

Nobody here writes history. The middleware says who, the tracked documents do the rest.
"""

from collections import Counter
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST
from mongoengine import Q
from mongoengine.queryset import QuerySet

from django_mongo_history import history_of, rationale
from testproject.airports.documents import Airport
from testproject.airports.forms import AirportForm, MomentForm, country_choices, initial_values
from testproject.airports.presentation import moment_text, state_rows, version_row

PAGE_SIZE = 30
AS_OF_SIZE = 200


@require_GET
def airport_list(request: HttpRequest) -> HttpResponse:
    """All airports, by page, or those that a search finds."""
    words, country = request.GET.get("q", "").strip(), request.GET.get("country", "")
    page = Paginator(_found(words, country=country), PAGE_SIZE).get_page(request.GET.get("page"))
    names = dict(country_choices())
    rows = [(airport, names.get(airport.country_code, "")) for airport in page]
    facts = {
        "page": page,
        "rows": rows,
        "words": words,
        "country": country,
        "countries": sorted(names.items()),
    }
    return render(request, "airports/list.html", facts)


@require_GET
def airport_history(request: HttpRequest, icao: str) -> HttpResponse:
    """One airport as it is, and how it came to be so; a deleted one has its history still."""
    versions = list(history_of(Airport, icao))
    if not versions:
        raise Http404(f"no airport {icao}, and never was")
    airport = Airport.objects.filter(pk=icao).first()
    state = versions[-1].state
    name = airport.name if airport else _last_name(versions)
    rows = [version_row(version) for version in reversed(versions)]
    facts = {"icao": icao, "name": name, "airport": airport, "state": state_rows(state), "versions": rows}
    return render(request, "airports/history.html", facts)


@require_GET
def airport_version(request: HttpRequest, icao: str, number: int) -> HttpResponse:
    """One airport as one version left it, with the country as it was then."""
    version = _version_or_404(icao, number)
    state = version.state
    country = version.follow("country") if state and "country" in state else None
    facts = {
        "icao": icao,
        "version": version_row(version),
        "state": None if state is None else state_rows(state),
        "country": country["name"] if country else "",
        "newest": len(history_of(Airport, icao)),
    }
    return render(request, "airports/version.html", facts)


@require_POST
@staff_member_required
def airport_revert(request: HttpRequest, icao: str, number: int) -> HttpResponse:
    """Write the state at a version back; that is a new version."""
    with rationale(f"Back to version {number}"):
        _version_or_404(icao, number).revert()
    messages.success(request, f"{icao} is as version {number} left it.")
    return redirect("airports:history", icao)


@staff_member_required
def airport_edit(request: HttpRequest, icao: str) -> HttpResponse:
    """Change an airport, with a reason if there is one."""
    airport = Airport.objects.filter(pk=icao).first()
    if airport is None:
        raise Http404(f"no airport {icao}")
    form = AirportForm(request.POST or None, initial=initial_values(airport))
    if request.method == "POST" and form.is_valid():
        _save(request, airport, form)
        return redirect("airports:history", icao)
    return render(request, "airports/edit.html", {"airport": airport, "form": form})


@require_GET
def airports_as_of(request: HttpRequest) -> HttpResponse:
    """Every airport as it stood at a moment."""
    initial = {"moment": moment_text(timezone.now())}
    form = MomentForm(request.GET if "moment" in request.GET else None, initial=initial)
    facts: dict[str, Any] = {"form": form}
    if form.is_bound and form.is_valid():
        facts |= _standing(form.cleaned_data["moment"], country=form.cleaned_data["country"])
    return render(request, "airports/as_of.html", facts)


def _found(words: str, *, country: str) -> QuerySet:
    """The airports that a search means."""
    found = Airport.objects.no_dereference()
    if country:
        found = found.filter(country=country)
    if words:
        found = found.filter(Q(codes=words.upper()) | Q(name__icontains=words) | Q(city__icontains=words))
    return found


def _version_or_404(icao: str, number: int) -> Any:
    """The version at a position, from 1."""
    history = history_of(Airport, icao)
    if not 1 <= number <= len(history):
        raise Http404(f"{icao} has no version {number}")
    return history[number - 1]


def _last_name(versions: list[Any]) -> str:
    """What a deleted airport was called."""
    states = (version.state for version in reversed(versions))
    return next((state["name"] for state in states if state), "")


def _save(request: HttpRequest, airport: Airport, form: AirportForm) -> None:
    """Write what the form changed, and say whether that was anything."""
    if not airport.revise(form.values()):
        messages.info(request, "Nothing changed, so nothing was written.")
        return
    reason = form.cleaned_data["reason"]
    with rationale(reason) if reason else nullcontext():
        airport.save()
    messages.success(request, f"{airport.icao} is saved. The change is at the top of its history.")


def _standing(moment: datetime, *, country: str) -> dict[str, Any]:
    """What the page says of a moment; counts are over everything, the table shows the first few."""
    names = dict(country_choices())
    counts: Counter[str] = Counter()
    shown: list[tuple[Airport, str]] = []
    for airport in history_of(Airport).as_of(moment):
        code = airport.country_code or ""
        if country in ("", code):
            counts[code] += 1
            if len(shown) < AS_OF_SIZE:
                shown.append((airport, names.get(code, code)))
    kinds = [(names.get(code, code), count) for code, count in counts.most_common(12)]
    return {"moment": moment_text(moment), "rows": shown, "total": sum(counts.values()), "countries": kinds}
