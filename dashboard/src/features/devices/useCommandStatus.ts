/** The status of one command for a component: what to show, and for how long. */
import { useEffect, useState } from 'react'
import { useReportedAt } from '../../state/live'
import { type CommandState, fetchOutcome } from './command'

/** How long a success is shown; a failure is shown until something newer is known. */
const SUCCESS_MS = 4_000
/** Delays between the lookups of an unknown outcome, in ms. */
const LOOKUP_DELAYS_MS = [1_500, 4_000, 10_000, 20_000]

const OUTCOME_TEXTS: Record<string, string> = {
  late_ack: 'confirmed late by the device',
  healed: 'confirmed by a later report',
  executed: 'confirmed',
  noop: 'was already in this state',
}

export interface CommandStatus {
  state: CommandState
  /** The outcome of a command that was unknown for a while. */
  note: string | null
  /** Sends a command and gives its outcome; does nothing while another one is pending. */
  start: (target: boolean, send: () => Promise<CommandState>) => Promise<CommandState>
}

const IDLE: CommandState = { kind: 'idle' }

interface Subject {
  uid: string
  /** The version of the state that the command changes; a higher version replaces a failure or an unknown outcome. */
  version: number
  /** The version at the moment of the call. */
  currentVersion: () => number
}

/** Follows one command at a time. */
export function useCommandStatus({ uid, version, currentVersion }: Subject): CommandStatus {
  const [command, setCommand] = useState<CommandState>(IDLE)
  /** The version that was known, and the time, when the command ended. */
  const [endedAt, setEndedAt] = useState({ version: 0, time: 0 })
  const [note, setNote] = useState<string | null>(null)
  const reportedAt = useReportedAt(uid, command.kind === 'unknown')
  const unresolved = command.kind === 'unknown' || command.kind === 'failed'
  // A report shows the state of the device, also when nothing changed.
  const outdated = unresolved && (version > endedAt.version || (command.kind === 'unknown' && reportedAt > endedAt.time))
  const state = outdated ? IDLE : command

  useEffect(() => {
    if (command.kind !== 'acked') return
    const timer = setTimeout(() => setCommand(IDLE), SUCCESS_MS)
    return () => clearTimeout(timer)
  }, [command])

  const unknownId = state.kind === 'unknown' ? state.commandId : null
  useEffect(() => {
    if (unknownId === null) return
    let cancelled = false
    const lookUp = async () => {
      for (const delay of LOOKUP_DELAYS_MS) {
        await new Promise((resolve) => setTimeout(resolve, delay))
        if (cancelled) return
        const outcome = await fetchOutcome(unknownId).catch(() => null)
        // Another command may have started meanwhile, to which this outcome does not belong.
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- it changes while the answer is on its way
        if (cancelled) return
        if (outcome !== null) {
          setNote(OUTCOME_TEXTS[outcome] ?? outcome)
          setCommand(IDLE)
          return
        }
      }
    }
    void lookUp()
    return () => {
      cancelled = true
    }
  }, [unknownId])

  const start = async (target: boolean, send: () => Promise<CommandState>) => {
    if (command.kind === 'pending') return command
    const versionBefore = currentVersion()
    setNote(null)
    setCommand({ kind: 'pending', target })
    const end = await send()
    // A refusal reports the state itself; any change while the outcome was unknown answers it.
    setEndedAt({ version: end.kind === 'failed' ? currentVersion() : versionBefore, time: performance.now() })
    setCommand(end)
    return end
  }
  return { state, note, start }
}
