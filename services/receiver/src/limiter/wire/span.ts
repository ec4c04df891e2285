import type { Point } from './point.ts';
import { lessThan } from './reader.ts';

/** From the earliest start to the latest time of some points, in halves. A start or time of 0 is missing and ignored. */
export class Span {
  startLo = 0;
  startHi = 0;
  timeLo = 0;
  timeHi = 0;

  include({ startLo, startHi, timeLo, timeHi }: Point): void {
    const started = this.startLo !== 0 || this.startHi !== 0;
    if (
      !started ||
      ((startLo !== 0 || startHi !== 0) && lessThan(startLo, startHi, this.startLo, this.startHi))
    ) {
      this.startLo = startLo;
      this.startHi = startHi;
    }
    if (lessThan(this.timeLo, this.timeHi, timeLo, timeHi)) {
      this.timeLo = timeLo;
      this.timeHi = timeHi;
    }
  }
}
