import { Alert, Badge, Button, Group, SimpleGrid, Stack, Text } from '@mantine/core'
import { useInfiniteQuery, useQuery, useQueryClient } from '@tanstack/react-query'
import { Link, useRouteContext } from '@tanstack/react-router'
import { type ReactNode, useCallback, useEffect, useMemo, useRef } from 'react'
import type { Device } from '../api/client'
import { deviceQuery, historyQuery } from '../api/queries'
import type { Frame } from '../api/socket'
import { deviceRoute } from '../router'
import { presenceNow, useFrames, useLive, useOnline, useWatch } from '../state/live'
import { setAll } from '../state/command'
import { change } from '../state/preferences'
import { AuditList } from '../ui/AuditList'
import { Card } from '../ui/Card'
import { Fact, PageTitle, PresenceBadge, Waiting, When } from '../ui/bits'
import { notifyProblem, Problem } from '../ui/Problem'
import { RelayToggle } from '../ui/Relay'
import { DeviceActions } from './device/Actions'
import { Grants } from './device/Grants'
import { Rename } from './device/Rename'

/** Events come in crowds: the history is asked for once after each. */
const HISTORY_AFTER_MS = 700

function Relays({ device, online }: { device: Device; online: boolean }): ReactNode {
  const both = device.access === 'owner' || device.access === 'admin' || device.relays.length === device.relay_count
  const all = async (state: boolean) => {
    const end = await setAll(device.uid, state)
    if (end.kind === 'failed' || end.kind === 'unknown')
      notifyProblem(end.kind === 'failed' ? 'The relays were not switched' : 'It is not known whether the relays were switched', end.error)
  }
  return (
    <Stack gap="md">
      {!online && (
        <Alert color="gray" title="Not connected">
          Commands are refused while the device is away; nothing is kept for later. It was last seen <When at={device.last_seen_at} />.
        </Alert>
      )}
      {device.relays.length === 0 && <Text size="sm">This device has no relays.</Text>}
      <SimpleGrid cols={{ base: 1, xs: device.relays.length > 4 ? 2 : 1 }} spacing="sm" verticalSpacing="xs">
        {device.relays.map((relay) => (
          <RelayToggle key={relay.index} device={device} index={relay.index} disabled={!online || device.access === 'read'} />
        ))}
      </SimpleGrid>
      {device.relays.length > 1 && both && device.access !== 'read' && (
        <Group gap="xs">
          <Button size="xs" variant="default" disabled={!online} onClick={() => void all(true)}>
            All on
          </Button>
          <Button size="xs" variant="default" disabled={!online} onClick={() => void all(false)}>
            All off
          </Button>
        </Group>
      )}
    </Stack>
  )
}

function Facts({ device }: { device: Device }): ReactNode {
  const live = useLive(device.uid)
  const action = device.last_action
  const input = live.lastInput ?? device.last_input_event ?? null
  return (
    <SimpleGrid component="dl" cols={{ base: 2, sm: 3 }} spacing="sm" m={0}>
      <Fact name="Class">{device.device_class.replace('_', ' ')}</Fact>
      <Fact name="Model">{device.model ?? '–'}</Fact>
      <Fact name="Hardware">{device.hardware ?? '–'}</Fact>
      <Fact name="Firmware">{device.firmware_version ?? '–'}</Fact>
      <Fact name="Serial">{device.serial ?? '–'}</Fact>
      <Fact name="Address">{device.ip ?? '–'}</Fact>
      <Fact name="Inputs">{device.input_count}</Fact>
      <Fact name="Capabilities">{device.capabilities.length === 0 ? '–' : device.capabilities.join(', ')}</Fact>
      <Fact name="Last seen">
        <When at={device.last_seen_at} />
      </Fact>
      <Fact name="Claimed">
        <When at={device.claimed_at} />
      </Fact>
      <Fact name="Last action">
        {action == null ? (
          'none since the server started'
        ) : (
          <>
            {action.relays.map((r) => `${r.index} ${r.state ? 'on' : 'off'}`).join(', ')} by {action.source}, <When at={action.at} />
          </>
        )}
      </Fact>
      <Fact name="Last input event">
        {input === null ? (
          'none since the server started'
        ) : (
          <>
            input {input.input} {input.event}, <When at={input.at} />
          </>
        )}
      </Fact>
    </SimpleGrid>
  )
}

function History({ device }: { device: Device }): ReactNode {
  const query = useInfiniteQuery(historyQuery(device.uid))
  const names = useMemo(() => new Map(device.relays.flatMap((r) => (r.name === null ? [] : [[r.index, r.name] as const]))), [device])
  return (
    <>
      {query.isPending && <Waiting />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} />}
      {query.data !== undefined && <AuditList rows={query.data.pages.flatMap((page) => page.items)} names={names} />}
      {query.hasNextPage && (
        <Button mt="sm" size="xs" variant="default" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
          Earlier
        </Button>
      )}
    </>
  )
}

/** One device. */
export function DevicePage(): ReactNode {
  const { uid } = deviceRoute.useParams()
  const { admin } = useRouteContext({ from: '__root__' })
  const client = useQueryClient()
  const query = useQuery(deviceQuery(uid))
  const heard = useOnline(uid)
  useWatch(useMemo(() => [uid], [uid]))
  const later = useRef<ReturnType<typeof setTimeout> | undefined>(undefined)
  useFrames(
    useCallback(
      (frame: Frame) => {
        if (!('device_uid' in frame) || frame.device_uid !== uid) return
        if (frame.type === 'device_updated' || frame.type === 'device_removed' || frame.type === 'device_added')
          void client.invalidateQueries({ queryKey: ['device', uid] })
        // Not put off by the next event: a device that never rests has a history too.
        later.current ??= setTimeout(() => {
          later.current = undefined
          void client.invalidateQueries({ queryKey: ['history', uid] })
          void client.invalidateQueries({ queryKey: ['device', uid] })
        }, HISTORY_AFTER_MS)
      },
      [client, uid],
    ),
  )
  useEffect(() => () => clearTimeout(later.current), [])
  useEffect(() => change('device_view_state', { last_device: uid }), [uid])

  if (query.isPending) return <Waiting rows={8} />
  if (query.data === undefined)
    return (
      <>
        <PageTitle title={uid} />
        <Problem thrown={query.error} retry={() => void query.refetch()} title="This device cannot be shown" />
        <Text mt="md" size="sm">
          <Link to="/devices">All devices</Link>
        </Text>
      </>
    )
  const device = query.data
  const online = heard ?? device.online
  const owner = device.access === 'owner' || device.access === 'admin'
  return (
    <>
      <PageTitle title={device.name ?? device.uid}>
        <PresenceBadge presence={presenceNow(device, heard)} />
        {device.access !== 'owner' && <Badge variant="outline" className="hx-badge">{device.access === 'admin' ? 'as admin' : `shared: ${device.access}`}</Badge>}
      </PageTitle>
      {query.isError && <Problem thrown={query.error} title="What you see may be old" retry={() => void query.refetch()} />}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="md">
        <Stack>
          <Card id="device.relays" title="Relays">
            <Relays device={device} online={online} />
          </Card>
          <Card id="device.facts" title="About">
            <Facts device={device} />
          </Card>
          {owner && (
            <Card id="device.names" title="Names">
              <Rename key={`${device.name ?? ''}${device.relays.map((r) => r.name ?? '').join('|')}`} device={device} />
            </Card>
          )}
        </Stack>
        <Stack>
          <Card id="device.history" title="History">
            <History device={device} />
          </Card>
          <Card id="device.grants" title="Sharing">
            <Grants device={device} />
          </Card>
          {owner && (
            <Card id="device.manage" title="Manage">
              <DeviceActions device={device} admin={admin} />
            </Card>
          )}
        </Stack>
      </SimpleGrid>
    </>
  )
}
