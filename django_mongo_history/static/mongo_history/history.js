/* Makes the history pages pleasant: the chart comes into the list, and a slider shows states as it moves. Nothing needs it. */
"use strict";

(function () {
  async function fetched(url) {
    const response = await fetch(url, { credentials: "same-origin", headers: { "X-Requested-With": "XMLHttpRequest" } });
    if (!response.ok) throw new Error(response.statusText);
    return new DOMParser().parseFromString(await response.text(), "text/html").body;
  }

  function withParameter(url, name, value) {
    const made = new URL(url, window.location.href);
    made.searchParams.set(name, value);
    return made;
  }

  document.querySelectorAll("[data-mh-fragment]").forEach(async (box) => {
    try {
      const body = await fetched(withParameter(box.dataset.mhFragment, "fragment", "1"));
      box.replaceChildren(...body.childNodes);
    } catch {
      /* The link to the chart stays. */
    }
  });

  document.querySelectorAll("[data-mh-slider]").forEach((form) => {
    const slider = form.querySelector("input[type=range]");
    const output = form.querySelector("output");
    const place = document.querySelector("[data-mh-state]");
    let latest = 0;
    slider.addEventListener("input", () => { output.value = slider.value; });
    slider.addEventListener("change", async () => {
      if (!place) return;
      const mine = ++latest;
      const url = withParameter(withParameter(form.action, "number", slider.value), "fragment", "1");
      try {
        const body = await fetched(url);
        if (mine === latest) place.replaceChildren(...body.childNodes);
      } catch {
        /* The button shows the state. */
      }
    });
  });
})();
