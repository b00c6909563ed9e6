"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const state = {};

  // "@c3/0.2" is the style sheet's --c3 at opacity 0.2.
  function colour(token) {
    if (token === "@clear") return "rgba(0,0,0,0)";
    const [name, opacity] = token.slice(1).split("/");
    const value = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
    if (opacity === undefined) return value;
    const part = (k) => parseInt(value.slice(1 + 2 * k, 3 + 2 * k), 16);
    return `rgba(${part(0)},${part(1)},${part(2)},${opacity})`;
  }

  // Only the values of keys that end in "color" are tokens: a recipe may be called "@c3".
  function painted(value, key) {
    if (Array.isArray(value)) return value.map((item) => painted(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, item]) => [k, painted(item, k)]));
    }
    return typeof value === "string" && value[0] === "@" && /color$/i.test(key) ? colour(value) : value;
  }

  function draw(name) {
    const { hidden, logarithmic } = state[name];
    const figure = painted(figures[name], "");
    for (const trace of figure.data) trace.visible = !hidden.has(trace.legendgroup);
    const layout = figure.layout;
    if (figure.ranges) {
      layout.yaxis.type = logarithmic ? "log" : "linear";
      layout.yaxis.range = logarithmic ? figure.ranges.log : figure.ranges.linear;
      layout.yaxis.uirevision = layout.yaxis.type;
    }
    // A finger that drags a plot means to scroll the page.
    layout.dragmode = touch ? false : "zoom";
    const options = { responsive: true, displayModeBar: false, doubleClick: "reset", showTips: false };
    return Plotly.react("plot-" + name, figure.data, layout, options);
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

  function drawAll() {
    return Promise.all(Object.keys(figures).map(draw));
  }
  scheme.addEventListener("change", drawAll);
  drawAll().then(() => document.documentElement.setAttribute("data-drawn", "yes"));

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
