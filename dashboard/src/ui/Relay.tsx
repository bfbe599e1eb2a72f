import { Badge, Group, Loader, Stack, Switch, Text, Tooltip } from '@mantine/core'
import { IconAlertTriangle, IconCheck, IconHelpCircle } from '@tabler/icons-react'
import { type ReactNode, useEffect, useState } from 'react'
import type { Device } from '../api/client'
import { type CommandState, outcome, setRelay } from '../state/command'
import { relayNow, useRelay } from '../state/live'
import { notifyProblem } from './Problem'

/** A result stays to be read for so long. */
const SHOWN_MS = 4_000
/** When the end of a command is asked for that nobody knew, in ms after each other. */
const LOOKS = [1_500, 4_000, 10_000, 20_000]

const MEANINGS: Record<string, string> = {
  late_ack: 'the device answered late: it was done',
  healed: 'the device reported: it is as asked',
  executed: 'it was done',
  noop: 'it was so already',
}

function Result({ state }: { state: CommandState }): ReactNode {
  switch (state.kind) {
    case 'idle':
      return null
    case 'pending':
      return (
        <Group gap={4} wrap="nowrap">
          <Loader size={12} aria-hidden />
          <Text size="xs">sending</Text>
        </Group>
      )
    case 'acked':
      return (
        <Group gap={4} wrap="nowrap">
          <IconCheck size={14} aria-hidden />
          <Text size="xs" className="hx-number">
            {state.noop ? 'was so already' : `acked in ${state.latencyMs < 10 ? state.latencyMs.toFixed(1) : Math.round(state.latencyMs)} ms`}
          </Text>
        </Group>
      )
    case 'failed':
      return (
        <Tooltip label={state.error.message} multiline maw={320}>
          <Badge color="red" variant="light" className="hx-badge" leftSection={<IconAlertTriangle size={12} aria-hidden />}>
            {state.error.code}
          </Badge>
        </Tooltip>
      )
    case 'unknown':
      return (
        <Tooltip label={`${state.error.message}. The device may have done it; its next report decides.`} multiline maw={320}>
          <Badge color="yellow" variant="light" className="hx-badge hx-stale" leftSection={<IconHelpCircle size={12} aria-hidden />}>
            unknown
          </Badge>
        </Tooltip>
      )
  }
}

/** One relay: what it is, and what becomes of a click. It shows the confirmed state only, never the one asked for. */
export function RelayToggle({ device, index, disabled }: { device: Device; index: number; disabled?: boolean }): ReactNode {
  const now = relayNow(device, useRelay(device.uid, index), index)
  const [command, setCommand] = useState<CommandState>({ kind: 'idle' })
  const [note, setNote] = useState<string | null>(null)
  const [sentAt, setSentAt] = useState(0)
  const name = device.relays.find((r) => r.index === index)?.name ?? null
  const label = name ?? `Relay ${index}`

  // A newer state of the relay ends whatever was unknown about it.
  const unknown = command.kind === 'unknown' && now.version <= sentAt
  const shown: CommandState = command.kind === 'unknown' && !unknown ? { kind: 'idle' } : command

  useEffect(() => {
    if (command.kind !== 'acked' && command.kind !== 'failed') return
    const timer = setTimeout(() => setCommand({ kind: 'idle' }), command.kind === 'failed' ? SHOWN_MS * 3 : SHOWN_MS)
    return () => clearTimeout(timer)
  }, [command])

  const openId = unknown ? command.commandId : null
  useEffect(() => {
    if (openId === null) return
    let over = false
    const look = async () => {
      for (const pause of LOOKS) {
        await new Promise((resolve) => setTimeout(resolve, pause))
        if (over) return
        const told = await outcome(openId).catch(() => null)
        if (told !== null) {
          setNote(MEANINGS[told] ?? told)
          setCommand({ kind: 'idle' })
          return
        }
      }
    }
    void look()
    return () => {
      over = true
    }
  }, [openId])

  const click = async () => {
    const target = now.state !== true
    setSentAt(now.version)
    setNote(null)
    setCommand({ kind: 'pending', target })
    const end = await setRelay(device.uid, index, target)
    setCommand(end)
    if (end.kind === 'failed') notifyProblem(`${label} was not switched`, end.error)
  }

  const said = now.state === null ? 'unknown' : now.state ? 'on' : 'off'
  return (
    <Group justify="space-between" wrap="nowrap" gap="sm" data-relay={index} data-state={said} data-command={shown.kind}>
      <Stack gap={0} miw={0}>
        <Text size="sm" truncate title={label}>
          {label}
        </Text>
        <Group gap={6} wrap="nowrap" mih={20} aria-live="polite">
          {shown.kind === 'idle' ? (
            <Text size="xs" c="dimmed">
              {said === 'unknown' ? 'state unknown until the device reports' : said}
              {note === null ? '' : ` · ${note}`}
            </Text>
          ) : (
            <Result state={shown} />
          )}
        </Group>
      </Stack>
      <Switch
        checked={now.state === true}
        disabled={disabled === true || shown.kind === 'pending'}
        onChange={() => void click()}
        aria-label={`${label} of ${device.name ?? device.uid}`}
        size="md"
        color="hexa"
      />
    </Group>
  )
}
