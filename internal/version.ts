/**
 * The version of the package.
 *
 * @module
 */

/** The version in `deno.json`; a test compares the two. JSON imports would not survive the npm mirror. */
export const VERSION: string = "0.1.0";
