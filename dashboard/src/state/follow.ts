/** A command as a part of a page follows it: what to show of it, and for how long. */
import { useEffect, useRef, useState } from 'react'
import { type CommandState, outcome } from './command'

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

/** `version` is that of the state that the command changes: a higher one ends what is unknown or has failed. */
export function useFollowed(version: number): Followed {
  const [command, setCommand] = useState<CommandState>(IDLE)
  const [sentAt, setSentAt] = useState(0)
  const [note, setNote] = useState<string | null>(null)
  const over = (command.kind === 'unknown' || command.kind === 'failed') && version > sentAt
  const shown = over ? IDLE : command
  const newest = useRef(version)
  useEffect(() => {
    newest.current = version
  }, [version])

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
    setSentAt(version)
    setNote(null)
    setCommand({ kind: 'pending', target })
    const end = await send()
    // A refusal may have told a state as well; what stands then is the state of the refusal.
    if (end.kind === 'failed') setSentAt(newest.current)
    setCommand(end)
    return end
  }
  return { shown, note, start }
}
