"use strict";
// What the plots of the reports and of the site share: colours from the style sheet, and how a figure is drawn.
const plots = (() => {
  const touch = window.matchMedia("(pointer: coarse)").matches;

  // "@c3/0.2" is the style sheet's --plot-c3 at opacity 0.2.
  function colour(token) {
    if (token === "@clear") return "rgba(0,0,0,0)";
    const [name, opacity] = token.slice(1).split("/");
    const value = getComputedStyle(document.body).getPropertyValue("--plot-" + name).trim();
    if (opacity === undefined) return value;
    const part = (k) => parseInt(value.slice(1 + 2 * k, 3 + 2 * k), 16);
    return `rgba(${part(0)},${part(1)},${part(2)},${opacity})`;
  }

  // Only the values of keys that end in "color" are tokens: a text may begin with "@", a recipe may be called "@c3".
  function painted(value, key) {
    if (Array.isArray(value)) return value.map((item) => painted(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, item]) => [k, painted(item, k)]));
    }
    return typeof value === "string" && value[0] === "@" && /color$/i.test(key) ? colour(value) : value;
  }

  // `edit` may change the painted copy of the figure before it is drawn.
  function draw(place, figure, edit = () => {}) {
    const made = painted(figure, "");
    edit(made);
    // A finger that drags a plot means to scroll the page.
    made.layout.dragmode = touch ? false : "zoom";
    const options = { responsive: true, displayModeBar: false, doubleClick: "reset", showTips: false };
    return Plotly.react(place, made.data, made.layout, options);
  }

  // Draws everything now, and again when the reader changes the scheme.
  function keepDrawn(drawAll) {
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    new MutationObserver(drawAll).observe(document.body, { attributeFilter: ["data-theme"] });
    drawAll().then(() => document.documentElement.setAttribute("data-drawn", "yes"));
  }

  return { draw, keepDrawn };
})();
