// A line chart of the last ten minutes: two lines told apart by colour, dashes and their names.

import { colours } from "./map.js";

const MINUTE_MS = 60 * 1000;
const WINDOW_MS = 10 * MINUTE_MS;
const LEFT = 56;
const BOTTOM = 18;

export class Chart {
  // `lines`: the samples' fields, each with its name and colour; the second line is dashed.
  constructor(canvas, lines, write) {
    this.canvas = canvas;
    this.lines = lines;
    this.write = write;
    this.samples = [];
    new ResizeObserver(() => this.draw(this.samples)).observe(canvas);
  }

  draw(samples) {
    this.samples = samples;
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0) return;
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    const colour = colours();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif";
    const now = samples.at(-1)?.at ?? 0;
    const most = this.most(samples);
    // Whole minutes, as many as there are figures of.
    const minutes = Math.ceil((now - (samples[0]?.at ?? now)) / MINUTE_MS);
    const span = Math.min(WINDOW_MS, Math.max(1, minutes) * MINUTE_MS);
    this.axes(pen, colour, { width, height, most, span });
    const x = (at) => LEFT + (width - LEFT) * (1 - (now - at) / span);
    const y = (value) => (height - BOTTOM) * (1 - value / most) + 4 * (value / most);
    this.lines.forEach(({ field, tone }, at) => {
      pen.strokeStyle = colour[tone];
      pen.lineWidth = 2;
      pen.setLineDash(at === 0 ? [] : [6, 4]);
      pen.beginPath();
      let isDown = false;
      for (const sample of samples) {
        const value = sample[field];
        if (value === null || x(sample.at) < LEFT) {
          isDown = false;
          continue;
        }
        pen[isDown ? "lineTo" : "moveTo"](x(sample.at), y(value));
        isDown = true;
      }
      pen.stroke();
    });
    pen.setLineDash([]);
  }

  // The top of the axis: 1, 2 or 5 times a power of ten above all values.
  most(samples) {
    let most = 1;
    for (const sample of samples) {
      for (const { field } of this.lines) most = Math.max(most, sample[field] ?? 0);
    }
    const power = 10 ** Math.floor(Math.log10(most));
    return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= most);
  }

  axes(pen, colour, { width, height, most, span }) {
    pen.fillStyle = colour.quiet;
    pen.strokeStyle = colour.line;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(LEFT, 4);
    pen.lineTo(LEFT, height - BOTTOM);
    pen.lineTo(width, height - BOTTOM);
    pen.stroke();
    pen.fillText(this.write(most), 0, 14);
    pen.fillText("0", 0, height - BOTTOM);
    pen.fillText(`${span / MINUTE_MS} min ago`, LEFT, height - 4);
    pen.fillText("now", width - 26, height - 4);
  }
}
