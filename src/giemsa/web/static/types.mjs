// @ts-check
/**
 * What the API answers, as far as the page uses it; the API's own description is at /openapi.json.
 *
 * @typedef {"parasitized" | "uninfected" | "indeterminate" | "not_a_cell" | "unreadable"} VerdictName
 * @typedef {"parasitized" | "uninfected" | "unsure" | "not_a_cell" | "withdrawn"} Answer
 *
 * @typedef {object} JudgedCell
 * @property {string} image
 * @property {VerdictName} verdict
 * @property {number | null} p_parasitized
 * @property {number | null} novelty
 * @property {string} reason
 * @property {string | null} sha256
 * @property {string | null} picture
 * @property {number[][] | null} evidence
 *
 * @typedef {JudgedCell & { id: string, place: number, file: Blob }} Cell
 *
 * @typedef {object} Model
 * @property {string} name
 * @property {string} sha256
 * @property {number} threshold
 * @property {string} provider
 * @property {string} giemsa
 *
 * @typedef {{ body_bytes: number, cells: number, fields: number, pixels_per_picture: number }} Limits
 *
 * @typedef {object} MoreOfTheCard
 * @property {number} input_size_px
 * @property {{ temperature: number, bias: number }} calibration
 * @property {string} label_set
 * @property {number} training_patients
 * @property {string} licence
 * @property {Limits} limits
 * @typedef {Model & MoreOfTheCard} Card
 *
 * @typedef {{ low: number[], high: number[] }} Limit
 *
 * @typedef {object} Curve
 * @property {number} n
 * @property {number} positives
 * @property {number} units
 * @property {string} kind
 * @property {number[]} thresholds
 * @property {number[]} true_positives
 * @property {number[]} false_positives
 * @property {Limit | null} sensitivity
 * @property {Limit | null} specificity
 * @property {{ value: number, low: number, high: number }} [roc_auc]
 * @property {{ said: number[], seen: number[], n: number[] }} [reliability]
 *
 * @typedef {object} Curves
 * @property {string} name
 * @property {boolean} serving
 * @property {Record<string, Curve>} labels
 *
 * @typedef {object} Review
 * @property {string} key
 * @property {string} reviewer
 * @property {string} image
 * @property {string} image_sha256
 * @property {string} model_sha256
 * @property {VerdictName} verdict
 * @property {number | null} p_parasitized
 * @property {Answer} answer
 *
 * @typedef {{ sha256: string, image: string, people: number }} KeptPicture
 *
 * @typedef {object} Agreement
 * @property {string} first
 * @property {string} second
 * @property {number} n
 * @property {number} units
 * @property {string} kind
 * @property {number[][]} table
 * @property {number | null} kappa
 * @property {number | null} low
 * @property {number | null} high
 * @property {string} reason
 *
 * @typedef {object} Smear
 * @property {string[]} sentences
 * @property {{ patient: string }} summary
 * @property {{ field: string }[]} fields
 * @property {string} report
 *
 * @typedef {{ file: Blob, name: string }} Item A file to send, under a name.
 */
export {};
