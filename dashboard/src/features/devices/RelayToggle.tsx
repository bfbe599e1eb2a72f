import { Button, Group, Loader, Popover, Stack, Switch, Text } from '@mantine/core'
import { IconAlertTriangle, IconCheck, IconHelpCircle } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import type { ApiError } from '../../api/error'
import type { Device } from '../../api/client'
import { type CommandState, setAll, setRelay } from './command'
import { useFollowed } from './useCommandStatus'
import { type LiveDevice, peek, relayNow, useLive, useRelay } from '../../state/live'
import { notifyProblem, ProblemText } from '../../ui/ErrorAlert'

/** A result that has more to say: its code, message and request id are behind a click. */
function Open({ kind, error, children }: { kind: 'failed' | 'unknown'; error: ApiError; children: ReactNode }): ReactNode {
  const failed = kind === 'failed'
  return (
    <Popover width={320} position="bottom-start" withArrow shadow="md" withinPortal>
      <Popover.Target>
        <Button
          size="compact-xs"
          variant="light"
          color={failed ? 'red' : 'yellow'}
          className={`hx-badge ${failed ? 'hx-failed' : 'hx-stale'}`}
          leftSection={failed ? <IconAlertTriangle size={12} aria-hidden /> : <IconHelpCircle size={12} aria-hidden />}
        >
          {children}
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        {!failed && (
          <Text size="sm" mb="xs">
            The device may have done it. Its next report decides.
          </Text>
        )}
        <ProblemText error={error} />
      </Popover.Dropdown>
    </Popover>
  )
}

/** What became of a command. */
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
            {state.noop ? 'already so' : `acked in ${state.latencyMs < 10 ? state.latencyMs.toFixed(1) : Math.round(state.latencyMs)} ms`}
          </Text>
        </Group>
      )
    case 'failed':
      return <Open kind="failed" error={state.error}>{state.error.code}</Open>
    case 'unknown':
      return <Open kind="unknown" error={state.error}>unknown</Open>
  }
}

/** One relay: what it is, and what becomes of a click. It shows the confirmed state only, never the one asked for. */
export function RelayToggle({ device, index, disabled }: { device: Device; index: number; disabled?: boolean }): ReactNode {
  const now = relayNow(device, useRelay(device.uid, index), index)
  const label = device.relays.find((r) => r.index === index)?.name ?? `Relay ${index}`
  const current = () => relayNow(device, peek(device.uid).relays.get(index), index).version
  const { shown, note, start } = useFollowed({ uid: device.uid, version: now.version, current })
  const pending = shown.kind === 'pending'

  const click = async () => {
    if (pending) return
    const target = now.state !== true
    const end = await start(target, () => setRelay(device.uid, index, target))
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
      {/* Not disabled while it waits: whoever came by the keyboard would lose their place. */}
      <Switch
        checked={now.state === true}
        disabled={disabled === true}
        aria-disabled={pending}
        onChange={() => void click()}
        aria-label={`${label} of ${device.name ?? device.uid}`}
        size="md"
        color="hexa"
        className={pending ? 'hx-pending' : ''}
      />
    </Group>
  )
}

/** Every relay of a device at once, in one command. */
export function AllRelays({ device, disabled }: { device: Device; disabled: boolean }): ReactNode {
  const sum = (live: LiveDevice) => device.relays.reduce((all, r) => all + relayNow(device, live.relays.get(r.index), r.index).version, 0)
  const version = sum(useLive(device.uid))
  const { shown, note, start } = useFollowed({ uid: device.uid, version, current: () => sum(peek(device.uid)) })
  const pending = shown.kind === 'pending'
  const click = async (target: boolean) => {
    const end = await start(target, () => setAll(device.uid, target))
    if (end.kind === 'failed') notifyProblem('The relays were not switched', end.error)
  }
  return (
    <Group gap="xs" mih={30} data-all data-command={shown.kind}>
      {([[true, 'All on'], [false, 'All off']] as const).map(([target, text]) => (
        <Button key={text} size="xs" variant="default" disabled={disabled} aria-disabled={pending} onClick={() => void click(target)}>
          {text}
        </Button>
      ))}
      <Group gap={6} aria-live="polite">
        {shown.kind === 'idle' ? note !== null && <Text size="xs" c="dimmed">{note}</Text> : <Result state={shown} />}
      </Group>
    </Group>
  )
}
