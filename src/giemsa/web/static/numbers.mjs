// @ts-check
/** What follows from counts at a threshold; `tests/web/golden.json` holds it and Python's to the same numbers. */
/** @import { Curve } from "./types.mjs" */

/**
 * The confusion matrix, sensitivity and specificity at the `at`th threshold.
 *
 * @param {Curve} curve
 * @param {number} at
 */
export function ratesAt(curve, at) {
  const negatives = curve.n - curve.positives;
  const [tp, fp] = [curve.true_positives[at], curve.false_positives[at]];
  return {
    tp,
    fp,
    fn: curve.positives - tp,
    tn: negatives - fp,
    sensitivity: tp / curve.positives,
    specificity: 1 - fp / negatives,
  };
}

/**
 * The predictive values, by Bayes' rule; NaN where no cell is called so.
 *
 * @param {number} sensitivity
 * @param {number} specificity
 * @param {number} prevalence share of cells that are infected
 */
export function predictiveValues(sensitivity, specificity, prevalence) {
  const [infected, healthy] = [prevalence, 1 - prevalence];
  const [true_, false_] = [sensitivity * infected, (1 - specificity) * healthy];
  const [spared, missed] = [specificity * healthy, (1 - sensitivity) * infected];
  return { ppv: true_ / (true_ + false_), npv: spared / (spared + missed) };
}

/**
 * The place of the value that is nearest.
 *
 * @param {number[]} values
 * @param {number} wanted
 */
export function nearest(values, wanted) {
  let best = 0;
  values.forEach((value, index) => {
    if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = index;
  });
  return best;
}
