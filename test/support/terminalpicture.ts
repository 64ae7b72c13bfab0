/** A terminal's screen as an SVG picture, from its text with escape sequences (of colours and attributes alone). */
import { columnsOf } from '../../src/cli/columns.ts';

const CELL_WIDTH = 8.43;
const CELL_HEIGHT = 18;
const MARGIN = 12;
const FONT_SIZE = 14;
const GROUND = '#1c1f26';
const PALE = '#d8dee9';
const PALETTE = ['#1c1f26', '#e06c75', '#98c379', '#e5c07b', '#61afef', '#c678dd', '#56b6c2', '#d8dee9'];

interface Pen {
  readonly fore: string;
  readonly back: string | undefined;
  readonly bold: boolean;
  readonly faint: boolean;
}

const PLAIN: Pen = { fore: PALE, back: undefined, bold: false, faint: false };

function changed(pen: Pen, code: number): Pen {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...pen, bold: true };
  if (code === 2) return { ...pen, faint: true };
  if (code === 7) return { ...pen, fore: GROUND, back: PALE };
  if (code >= 30 && code <= 37) return { ...pen, fore: PALETTE[code - 30] ?? PALE };
  if (code >= 40 && code <= 47) return { ...pen, back: PALETTE[code - 40] };
  if (code === 39) return { ...pen, fore: PALE };
  if (code === 49) return { ...pen, back: undefined };
  return pen;
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** @param screen lines as `tmux capture-pane -e` prints them */
export function terminalPicture(screen: string, columns: number): string {
  const lines = screen.split('\n');
  while (
    lines
      .at(-1)
      ?.replace(/\x1b\[[0-9;]*m/g, '')
      .trim() === ''
  )
    lines.pop();
  const width = Math.ceil(columns * CELL_WIDTH + 2 * MARGIN);
  const height = lines.length * CELL_HEIGHT + 2 * MARGIN;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<rect width="${width}" height="${height}" rx="8" fill="${GROUND}"/>`,
    `<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="${FONT_SIZE}" xml:space="preserve">`,
  ];
  let pen = PLAIN;
  for (const [row, line] of lines.entries()) {
    let column = 0;
    for (const piece of line.split(/(\x1b\[[0-9;]*m)/)) {
      const codes = /^\x1b\[([0-9;]*)m$/.exec(piece)?.[1];
      if (codes !== undefined) {
        for (const code of codes.split(';')) pen = changed(pen, Number(code));
        continue;
      }
      const cells = columnsOf(piece);
      if (cells === 0) continue;
      const x = MARGIN + column * CELL_WIDTH;
      const y = MARGIN + row * CELL_HEIGHT;
      const length = (cells * CELL_WIDTH).toFixed(2);
      if (pen.back !== undefined)
        parts.push(`<rect x="${x.toFixed(2)}" y="${y}" width="${length}" height="${CELL_HEIGHT}" fill="${pen.back}"/>`);
      const style = `${pen.bold ? ' font-weight="bold"' : ''}${pen.faint ? ' opacity="0.65"' : ''}`;
      if (piece.trim() !== '')
        parts.push(
          `<text x="${x.toFixed(2)}" y="${y + 13.5}" fill="${pen.fore}" textLength="${length}" lengthAdjust="spacingAndGlyphs"${style}>${escaped(piece)}</text>`,
        );
      column += cells;
    }
  }
  return `${[...parts, '</g>', '</svg>'].join('\n')}\n`;
}
