/** The second thread for signatures (native/crew): not a program, but what such a thread of the agent runs. */
import { workerData } from 'node:worker_threads';
import { type CrewStart, workInCrew } from '../native/joblist.ts';
import { bindHere } from '../native/signing.ts';

bindHere();
workInCrew(workerData as CrewStart);
