/**
 * Loaded before every test module: binds the C library's functions, which stay bound for the life of a process. Bound by
 * the first example in a docstring that needs one, they would count as a leak of that example.
 *
 * @module
 */

import { bindAll } from "../ffi/libc_linux.ts";

bindAll();
