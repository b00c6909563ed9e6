"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const state = {};

  function draw(name) {
    const { hidden, logarithmic } = state[name];
    return plots.draw("plot-" + name, figures[name], (figure) => {
      for (const trace of figure.data) trace.visible = !hidden.has(trace.legendgroup);
      const layout = figure.layout;
      if (figure.ranges) {
        layout.yaxis.type = logarithmic ? "log" : "linear";
        layout.yaxis.range = logarithmic ? figure.ranges.log : figure.ranges.linear;
        layout.yaxis.uirevision = layout.yaxis.type;
      }
    });
  }

  for (const name of Object.keys(figures)) {
    const hidden = new Set(figures[name].data.filter((trace) => trace.visible === false).map((t) => t.legendgroup));
    state[name] = { hidden, logarithmic: false };
    for (const button of document.querySelectorAll(`#figure-${name} button[data-group]`)) {
      button.addEventListener("click", () => {
        const group = button.dataset.group;
        if (!hidden.delete(group)) hidden.add(group);
        button.setAttribute("aria-pressed", String(!hidden.has(group)));
        draw(name);
      });
    }
    const toggle = document.querySelector(`#figure-${name} input[data-logarithmic]`);
    if (toggle) {
      toggle.checked = false;
      toggle.addEventListener("change", () => {
        state[name].logarithmic = toggle.checked;
        draw(name);
      });
    }
  }

  plots.keepDrawn(() => Promise.all(Object.keys(figures).map(draw)));

  const copy = document.getElementById("copy");
  if (copy) copy.hidden = false;
  copy?.addEventListener("click", () => {
    // Without the clipboard interface, which some browsers keep from local files, a selection does it.
    window.getSelection().selectAllChildren(document.getElementById("command"));
    document.execCommand("copy");
    copy.textContent = "copied";
    setTimeout(() => { copy.textContent = "copy"; }, 1500);
  });
})();
