/** What can go wrong between a client and its agent. Texts hold nothing of what was sent. */
export type AgentErrorCode =
  | 'refused' // the agent answered FAILURE: it never says why
  | 'extension-failure' // it knows the extension, and that failed (RFC 9987 section 3.8)
  | 'communication' // the connection broke before the answer was whole
  | 'bad-reply' // an answer that is malformed, or to another question
  | 'no-agent' // nothing to connect to; `cause` has the system's error, where there was one
  | 'too-large'; // a request or an answer above MAX_FRAME_BYTES

export class AgentError extends Error {
  readonly code: AgentErrorCode;

  constructor(code: AgentErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AgentError';
    this.code = code;
  }
}
