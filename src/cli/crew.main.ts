/** The second thread for signatures (native/crew): not a program, but what such a thread of the agent runs. */
import { workerData } from 'node:worker_threads';
import { JobList } from '../native/crew.ts';
import { bindHere } from '../native/signing.ts';

bindHere();
new JobList(workerData as SharedArrayBuffer).work();
