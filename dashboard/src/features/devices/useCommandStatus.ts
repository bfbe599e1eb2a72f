/** A command as a part of a page follows it: what to show of it, and for how long. */
import { useEffect, useState } from 'react'
import { type CommandState, outcome } from './command'
import { useReportedAt } from '../../state/live'

/** A success stays to be read for so long; what went wrong stays until something newer is known. */
const SHOWN_MS = 4_000
/** When the end of a command is asked for that nobody knew, in ms after each other. */
const LOOKS = [1_500, 4_000, 10_000, 20_000]

const MEANINGS: Record<string, string> = {
  late_ack: 'the device answered late: it was done',
  healed: 'the device reported: it is as asked',
  executed: 'it was done',
  noop: 'it was already so',
}

export interface Followed {
  shown: CommandState
  /** What became of a command that was unknown for a while. */
  note: string | null
  /** Sends one; does nothing while another is on its way. Gives its end. */
  start: (target: boolean, send: () => Promise<CommandState>) => Promise<CommandState>
}

const IDLE: CommandState = { kind: 'idle' }

interface Subject {
  uid: string
  /** Of the state that the command changes, as it is shown: a higher one ends what is unknown or has failed. */
  version: number
  /** The same, as it is known at this moment. */
  current: () => number
}

/** Follows one command at a time. */
export function useFollowed({ uid, version, current }: Subject): Followed {
  const [command, setCommand] = useState<CommandState>(IDLE)
  /** The version that was known, and the time, when what is shown came about. */
  const [since, setSince] = useState({ version: 0, at: 0 })
  const [note, setNote] = useState<string | null>(null)
  const reportedAt = useReportedAt(uid, command.kind === 'unknown')
  const unclear = command.kind === 'unknown' || command.kind === 'failed'
  // A device that reports says how things stand, also where nothing changed.
  const over = unclear && (version > since.version || (command.kind === 'unknown' && reportedAt > since.at))
  const shown = over ? IDLE : command

  useEffect(() => {
    if (command.kind !== 'acked') return
    const timer = setTimeout(() => setCommand(IDLE), SHOWN_MS)
    return () => clearTimeout(timer)
  }, [command])

  const openId = shown.kind === 'unknown' ? shown.commandId : null
  useEffect(() => {
    if (openId === null) return
    let left = false
    const look = async () => {
      for (const pause of LOOKS) {
        await new Promise((resolve) => setTimeout(resolve, pause))
        if (left) return
        const told = await outcome(openId).catch(() => null)
        // Another click may have come meanwhile, which is not this command's.
        // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- it changes while the answer is on its way
        if (left) return
        if (told !== null) {
          setNote(MEANINGS[told] ?? told)
          setCommand(IDLE)
          return
        }
      }
    }
    void look()
    return () => {
      left = true
    }
  }, [openId])

  const start = async (target: boolean, send: () => Promise<CommandState>) => {
    if (command.kind === 'pending') return command
    const before = current()
    setNote(null)
    setCommand({ kind: 'pending', target })
    const end = await send()
    // What a refusal told of the state belongs to the refusal; what came while nobody knew is an answer.
    setSince({ version: end.kind === 'failed' ? current() : before, at: performance.now() })
    setCommand(end)
    return end
  }
  return { shown, note, start }
}
