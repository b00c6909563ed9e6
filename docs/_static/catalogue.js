"use strict";
// Shows the papers that hold every word of the search, or meet the need that it names, as `sooner papers` does; the
// address keeps the search, so that it can be sent on.
(() => {
  const form = document.querySelector(".catalogue-search");
  const words = document.getElementById("catalogue-words");
  const status = document.getElementById("catalogue-status");
  const told = form.querySelector("output");
  const known = Object.entries(JSON.parse(form.dataset.needs));
  const rows = [...document.querySelectorAll("#catalogue-table tbody tr")].map((row) => ({
    row,
    text: row.textContent.toLowerCase(),
    named: [row.querySelector("a").textContent, row.cells[2].textContent, row.cells[4].textContent].join(" ").toLowerCase(),
    needs: row.querySelector(".needs").textContent.split(", "),
    status: row.cells[3].textContent.trim(),
  }));

  function meant(phrase) {
    const padded = ` ${phrase} `;
    return known
      .filter(([need, others]) => [need.toLowerCase(), ...others].some((other) => padded.includes(` ${other} `)))
      .map(([need]) => need);
  }

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const needs = meant(wanted.join(" "));
    let shown = 0;
    for (const one of rows) {
      // Beside a need, words found in a sentence prove nothing.
      const place = needs.length ? one.named : one.text;
      const fits = wanted.every((word) => place.includes(word)) || one.needs.some((need) => needs.includes(need));
      one.row.hidden = !(fits && (!status.value || one.status === status.value));
      if (!one.row.hidden) shown += 1;
    }
    told.textContent = shown === 0 ? "No paper fits. Fewer words find more." : `${shown} of ${rows.length} papers`;
    const query = new URLSearchParams();
    if (words.value) query.set("q", words.value);
    if (status.value) query.set("status", status.value);
    history.replaceState(null, "", query.size ? `#${query}` : location.pathname);
  }

  const given = new URLSearchParams(location.hash.slice(1));
  words.value = given.get("q") || "";
  status.value = given.get("status") || "";
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    words.value = "";
    filter();
  });
  filter();
})();
