// Survival curves as SVG: the cohort's Kaplan–Meier with its band, the prediction with the band of its refits.

const SVG = "http://www.w3.org/2000/svg";
const [LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT] = [58, 12, 12, 44, 480, 280];

function put(parent, name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function niceStep(most) {
  const rough = most / 6, power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((k) => k * power).find((step) => step >= rough);
}

export class Chart {
  constructor(svg, cohort, unit) {
    this.time = cohort.time;
    this.unit = unit;
    this.svg = svg;
    this.last = this.time[this.time.length - 1];
    svg.replaceChildren();
    this.axes();
    put(svg, "path", { class: "cohort-band", d: this.band(cohort.low, cohort.high) });
    put(svg, "path", { class: "cohort-line", d: this.line(cohort.survival) });
    this.refits = put(svg, "path", { class: "model-band", d: "" });
    this.model = put(svg, "path", { class: "model-line", d: "" });
  }

  x(t) { return (LEFT + (WIDTH - LEFT - RIGHT) * t / this.last).toFixed(1); }
  y(s) { return (TOP + (HEIGHT - TOP - BOTTOM) * (1 - s)).toFixed(1); }
  points(values) { return values.map((s, i) => `${this.x(this.time[i])},${this.y(s)}`); }
  line(values) { return "M" + this.points(values).join("L"); }
  band(low, high) { return "M" + [...this.points(low), ...this.points(high).reverse()].join("L") + "Z"; }

  axes() {
    for (const s of [0, 0.25, 0.5, 0.75, 1]) {
      put(this.svg, "line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: this.y(s), y2: this.y(s) });
      put(this.svg, "text", { x: LEFT - 6, y: +this.y(s) + 4, "text-anchor": "end" }, `${100 * s} %`);
    }
    const step = niceStep(this.last);
    for (let t = 0; t <= this.last; t += step) {
      put(this.svg, "text", { x: this.x(t), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, +t.toPrecision(3));
    }
    put(this.svg, "text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, `Alive after so many ${this.unit}`);
  }

  show(standing) {
    this.model.setAttribute("d", this.line(standing.survival));
    this.refits.setAttribute("d", standing.low ? this.band(standing.low, standing.high) : "");
    const half = standing.survival.findIndex((s) => s < 0.5);
    const words = half < 0 ? "stays above one half" : `falls below one half after ${this.time[half].toPrecision(2)} ${this.unit}`;
    this.svg.setAttribute("aria-label", `Survival curves: the one predicted for this picture ${words}.`);
  }
}
