import { Button, Group, Loader, Popover, Stack, Switch, Text } from '@mantine/core'
import { IconAlertTriangle, IconCheck, IconHelpCircle } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import type { Device } from '../../api/client'
import type { ApiError } from '../../api/error'
import { type LiveDevice, liveDevice, newestRelayState, useLiveDevice, useRelay } from '../../state/live'
import { ErrorDetails, notifyError } from '../../ui/ErrorAlert'
import { type CommandState, setAllRelays, setRelay } from './command'
import { uniqueDeviceName } from './deviceName'
import { useCommandStatus } from './useCommandStatus'

/** An outcome with details: the error's code, message and request id open with a click. */
function OutcomeButton({ kind, error, children }: { kind: 'failed' | 'unknown'; error: ApiError; children: ReactNode }): ReactNode {
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
            The device may have executed the command. Its next report will show the state.
          </Text>
        )}
        <ErrorDetails error={error} />
      </Popover.Dropdown>
    </Popover>
  )
}

/** The outcome of a command, or that it is pending. */
function CommandOutcome({ state }: { state: CommandState }): ReactNode {
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
            {state.noop ? 'already in this state' : `confirmed in ${state.latencyMs < 10 ? state.latencyMs.toFixed(1) : Math.round(state.latencyMs)} ms`}
          </Text>
        </Group>
      )
    case 'failed':
      return <OutcomeButton kind="failed" error={state.error}>{state.error.code}</OutcomeButton>
    case 'unknown':
      return <OutcomeButton kind="unknown" error={state.error}>unknown</OutcomeButton>
  }
}

/** One relay with its switch, which shows the confirmed state only, never the requested one. */
export function RelayToggle({ device, index, disabled }: { device: Device; index: number; disabled?: boolean }): ReactNode {
  const now = newestRelayState(device, useRelay(device.uid, index), index)
  const label = device.relays.find((r) => r.index === index)?.name ?? `Relay ${index}`
  const currentVersion = () => newestRelayState(device, liveDevice(device.uid).relays.get(index), index).version
  const { state, note, start } = useCommandStatus({ uid: device.uid, version: now.version, currentVersion })
  const pending = state.kind === 'pending'

  const click = async () => {
    if (pending) return
    const target = now.state !== true
    const end = await start(target, () => setRelay(device.uid, index, target))
    if (end.kind === 'failed') notifyError(`${label} was not switched`, end.error)
  }

  const stateText = now.state === null ? 'unknown' : now.state ? 'on' : 'off'
  return (
    <Group justify="space-between" wrap="nowrap" gap="sm" data-relay={index} data-state={stateText} data-command={state.kind}>
      <Stack gap={0} miw={0}>
        <Text size="sm" truncate title={label}>
          {label}
        </Text>
        <Group gap={6} wrap="nowrap" mih={20} aria-live="polite">
          {state.kind === 'idle' ? (
            <Text size="xs" c="dimmed">
              {stateText === 'unknown' ? 'unknown until the device reports' : stateText}
              {note === null ? '' : ` · ${note}`}
            </Text>
          ) : (
            <CommandOutcome state={state} />
          )}
        </Group>
      </Stack>
      {/* Not disabled while pending: it would lose the keyboard focus. */}
      <Switch
        checked={now.state === true}
        disabled={disabled === true}
        aria-disabled={pending}
        onChange={() => void click()}
        aria-label={`${label} of ${uniqueDeviceName(device)}`}
        size="md"
        color="hexa"
        className={pending ? 'hx-pending' : ''}
      />
    </Group>
  )
}

/** Buttons that switch every relay of a device in one command. */
export function AllRelays({ device, disabled }: { device: Device; disabled: boolean }): ReactNode {
  const totalVersion = (live: LiveDevice) => device.relays.reduce((all, r) => all + newestRelayState(device, live.relays.get(r.index), r.index).version, 0)
  const version = totalVersion(useLiveDevice(device.uid))
  const { state, note, start } = useCommandStatus({ uid: device.uid, version, currentVersion: () => totalVersion(liveDevice(device.uid)) })
  const pending = state.kind === 'pending'
  const click = async (target: boolean) => {
    const end = await start(target, () => setAllRelays(device.uid, target))
    if (end.kind === 'failed') notifyError('The relays were not switched', end.error)
  }
  return (
    <Group gap="xs" mih={30} data-all data-command={state.kind}>
      {([[true, 'All on'], [false, 'All off']] as const).map(([target, text]) => (
        <Button key={text} size="xs" variant="default" disabled={disabled} aria-disabled={pending} onClick={() => void click(target)}>
          {text}
        </Button>
      ))}
      <Group gap={6} aria-live="polite">
        {state.kind === 'idle' ? note !== null && <Text size="xs" c="dimmed">{note}</Text> : <CommandOutcome state={state} />}
      </Group>
    </Group>
  )
}
