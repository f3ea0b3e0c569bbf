/**
 * The numbers of TFTP, each with the document that defines it.
 *
 * @module
 */

/** Read request. RFC 1350 §5. */
export const RRQ = 1;
/** Write request. RFC 1350 §5. */
export const WRQ = 2;
/** A block of the file. RFC 1350 §5. */
export const DATA = 3;
/** Acknowledgement of a block, of a window (RFC 7440) or of the options. RFC 1350 §5. */
export const ACK = 4;
/** The end of a transfer that failed. RFC 1350 §5. */
export const ERROR = 5;
/** Acknowledgement of options. RFC 2347. */
export const OACK = 6;

/** Not defined: the text matters. RFC 1350, appendix. */
export const ERROR_NOT_DEFINED = 0;
/** File not found. */
export const ERROR_NOT_FOUND = 1;
/** Access violation. */
export const ERROR_ACCESS_VIOLATION = 2;
/** Disk full or allocation exceeded. */
export const ERROR_DISK_FULL = 3;
/** Illegal TFTP operation. */
export const ERROR_ILLEGAL_OPERATION = 4;
/** Unknown transfer ID. */
export const ERROR_UNKNOWN_TRANSFER = 5;
/** File already exists. */
export const ERROR_FILE_EXISTS = 6;
/** No such user. */
export const ERROR_NO_SUCH_USER = 7;
/** The offered options are not acceptable. RFC 2347. */
export const ERROR_OPTIONS_REFUSED = 8;

/** Bytes of opcode and block number before the payload of a DATA packet. RFC 1350 §5. */
export const DATA_HEADER_BYTES = 4;
/** Block size in bytes when none was negotiated. RFC 1350 §2. */
export const DEFAULT_BLOCK_BYTES = 512;
/** Smallest block size that may be negotiated, bytes. RFC 2348. */
export const MIN_BLOCK_BYTES = 8;
/** Largest block size that may be negotiated, bytes: what fits a datagram over IPv4. RFC 2348. */
export const MAX_BLOCK_BYTES = 65464;
/** Largest window a client may ask for, blocks. RFC 7440 §3. */
export const MAX_WINDOW_BLOCKS = 65535;
/**
 * Largest window we agree to, blocks: half the number space, so that a received 16-bit number has exactly one meaning.
 */
export const MAX_AGREED_WINDOW_BLOCKS = 32768;
/** Largest request RFC 2347 allows, bytes. What we send stays below it. */
export const MAX_REQUEST_BYTES = 512;
/** Largest request we take, bytes: some firmware pads its request to a whole frame. */
export const MAX_ACCEPTED_REQUEST_BYTES = 1500;
/** Longest text of an ERROR packet we read or write, bytes. */
export const MAX_ERROR_MESSAGE_BYTES = 512;
