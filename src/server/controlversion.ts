/** Of the control socket's protocol (docs/protocol.md): apart, so that its clients need nothing else of the server. */
export const CONTROL_VERSION = 1;
