/*
  Makes the history pages pleasant: the chart comes into the list, a slider shows states as it moves, everything folds and
  unfolds at once, all rows are selected at once, and paper shows what is folded. No page needs any of it.
*/
"use strict";

(function () {
  document.documentElement.classList.add("mh-js");

  async function fetched(url) {
    const response = await fetch(url, { credentials: "same-origin", headers: { "X-Requested-With": "XMLHttpRequest" } });
    if (!response.ok || response.redirected) throw new Error(response.statusText);
    return new DOMParser().parseFromString(await response.text(), "text/html").body;
  }

  function withParameter(url, name, value) {
    const made = new URL(url, window.location.href);
    made.searchParams.set(name, value);
    return made;
  }

  /* The chart. While it is on its way the link to it stands there, and stays where it does not come. */
  document.querySelectorAll("[data-mh-fragment]").forEach(async (box) => {
    box.setAttribute("aria-busy", "true");
    try {
      const body = await fetched(withParameter(box.dataset.mhFragment, "fragment", "1"));
      box.replaceChildren(...body.childNodes);
    } catch {
      box.classList.add("mh-failed");
    }
    box.removeAttribute("aria-busy");
  });

  /* The slider. Its number follows the thumb at once, the state when it rests. */
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
      place.setAttribute("aria-busy", "true");
      try {
        const body = await fetched(url);
        if (mine === latest) place.replaceChildren(...body.childNodes);
      } catch {
        if (mine === latest) form.submit();
      }
      if (mine === latest) place.removeAttribute("aria-busy");
    });
  });

  /* Fold and unfold all: the button names the other one of the two while everything is open. */
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-mh-unfold]");
    if (!button) return;
    const folds = button.closest("[data-mh-folds]").querySelectorAll("details");
    const opens = button.getAttribute("aria-pressed") !== "true";
    folds.forEach((one) => { one.open = opens; });
    button.setAttribute("aria-pressed", String(opens));
  });

  /* Select all, as the admin's own lists have it. */
  document.querySelectorAll("[data-mh-select-all]").forEach((all) => {
    const boxes = [...all.form.querySelectorAll(".action-select")];
    const follow = () => {
      const count = boxes.filter((one) => one.checked).length;
      all.checked = count > 0 && count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
    };
    all.addEventListener("change", () => boxes.forEach((one) => { one.checked = all.checked; }));
    boxes.forEach((one) => one.addEventListener("change", follow));
    window.addEventListener("pageshow", follow);
  });

  /* Paper cannot be unfolded. */
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll(".mh-main details:not([open], .mh-chart-table)")];
    folded.forEach((one) => { one.open = true; });
  });
  window.addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
})();
