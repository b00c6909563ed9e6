"use strict";
// Draws the figures of a page of evidence; each says where its data stand.
plots.keepDrawn(() => Promise.all([...document.querySelectorAll(".evidence-plot")].map(
  (place) => plots.draw(place, JSON.parse(document.getElementById(place.dataset.figure).textContent)))));
