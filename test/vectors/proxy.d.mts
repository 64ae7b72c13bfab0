export interface SeenFrame {
  readonly connection: number;
  readonly direction: 'request' | 'response';
  /** With its length field. */
  readonly frame: Uint8Array;
}

export interface AgentProxy {
  readonly frames: SeenFrame[];
  take(): SeenFrame[];
  close(): Promise<void>;
}

export function startProxy(path: string, agent: string): Promise<AgentProxy>;
