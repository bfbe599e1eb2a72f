import { Alert, Badge, SimpleGrid, Stack, Text } from '@mantine/core'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { getRouteApi, Link } from '@tanstack/react-router'
import { type ReactNode, useEffect, useMemo } from 'react'
import type { Device } from '../../api/client'
import { useDeviceEvents, useLiveDevice, useLiveUpdates, usePresence } from '../../state/live'
import { changePreferences } from '../../state/preferences'
import { useAdmin } from '../../state/useSession'
import { useTimeline } from '../../state/useTimeline'
import { AuditList, LoadOlder } from '../../ui/AuditList'
import { Card } from '../../ui/Card'
import { DescriptionItem } from '../../ui/DescriptionItem'
import { ErrorAlert } from '../../ui/ErrorAlert'
import { LoadingRows } from '../../ui/LoadingRows'
import { PageTitle } from '../../ui/PageTitle'
import { RelativeTime } from '../../ui/RelativeTime'
import { DeviceActions } from './DeviceActions'
import { deviceName } from './deviceName'
import { PresenceBadge } from './PresenceBadge'
import { deviceQuery, historyPages } from './queries'
import { AllRelays, RelayToggle } from './RelayToggle'
import { RenameDevice } from './RenameDevice'
import { DeviceGrants } from './sharing/DeviceGrants'

const route = getRouteApi('/devices/$uid')

const relayNames = (device: Device) => new Map(device.relays.flatMap((r) => (r.name === null ? [] : [[r.index, r.name] as const])))

function Relays({ device, online }: { device: Device; online: boolean }): ReactNode {
  const hasAllRelays = device.access === 'owner' || device.access === 'admin' || device.relays.length === device.relay_count
  return (
    <Stack gap="md">
      {!online && (
        <Alert color="gray" title="Not connected">
          Commands are refused while the device is offline; they are not queued. Last seen: <RelativeTime at={device.last_seen_at} />.
        </Alert>
      )}
      {device.relays.length === 0 && <Text size="sm">This device has no relays.</Text>}
      <SimpleGrid cols={{ base: 1, xs: device.relays.length > 4 ? 2 : 1 }} spacing="sm" verticalSpacing="xs">
        {device.relays.map((relay) => (
          <RelayToggle key={relay.index} device={device} index={relay.index} disabled={!online || device.access === 'read'} />
        ))}
      </SimpleGrid>
      {device.relays.length > 1 && hasAllRelays && device.access !== 'read' && (
        <AllRelays device={device} disabled={!online} />
      )}
    </Stack>
  )
}

function About({ device }: { device: Device }): ReactNode {
  const live = useLiveDevice(device.uid)
  const action = device.last_action
  const names = relayNames(device)
  const { lastInput: received } = live
  const { last_input_event: loaded } = device
  const input = received !== null && (loaded === null || Date.parse(received.at) >= Date.parse(loaded.at)) ? received : loaded
  return (
    <SimpleGrid component="dl" cols={{ base: 2, sm: 3 }} spacing="sm" m={0}>
      <DescriptionItem name="Uid">{device.uid}</DescriptionItem>
      <DescriptionItem name="Class">{device.device_class.replace('_', ' ')}</DescriptionItem>
      <DescriptionItem name="Model">{device.model ?? '–'}</DescriptionItem>
      <DescriptionItem name="Hardware">{device.hardware ?? '–'}</DescriptionItem>
      <DescriptionItem name="Firmware">{device.firmware_version ?? '–'}</DescriptionItem>
      <DescriptionItem name="Serial">{device.serial ?? '–'}</DescriptionItem>
      <DescriptionItem name="Address">{device.ip ?? '–'}</DescriptionItem>
      <DescriptionItem name="Inputs">{device.input_count}</DescriptionItem>
      <DescriptionItem name="Capabilities">{device.capabilities.length === 0 ? '–' : device.capabilities.join(', ')}</DescriptionItem>
      <DescriptionItem name="Last seen">
        <RelativeTime at={device.last_seen_at} />
      </DescriptionItem>
      <DescriptionItem name="Claimed">
        {device.owner != null && (
          <>
            by <Link to="/users/$id" params={{ id: device.owner.id }}>{device.owner.name ?? device.owner.email}</Link>,{' '}
          </>
        )}
        <RelativeTime at={device.claimed_at} />
      </DescriptionItem>
      <DescriptionItem name="Last action">
        {action == null ? (
          'none since the server started'
        ) : (
          <>
            {action.relays.map((r) => `${names.get(r.index) ?? `relay ${r.index}`} ${r.state ? 'on' : 'off'}`).join(', ')} via {action.source}, <RelativeTime at={action.at} />
          </>
        )}
      </DescriptionItem>
      <DescriptionItem name="Last input event">
        {input === null ? (
          'none since the server started'
        ) : (
          <>
            input {input.input} {input.event}, <RelativeTime at={input.at} />
          </>
        )}
      </DescriptionItem>
    </SimpleGrid>
  )
}

function History({ device }: { device: Device }): ReactNode {
  const { rows, paused, showNewest, refreshNewest, query } = useTimeline(historyPages(device.uid), false)
  useDeviceEvents(device.uid, refreshNewest)
  const names = useMemo(() => relayNames(device), [device])
  return (
    <>
      {query.isPending && <LoadingRows />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {!query.isPending && !(query.isError && rows.length === 0) && <AuditList rows={rows} names={names} />}
      <LoadOlder query={query} paused={paused} showNewest={showNewest} />
    </>
  )
}

/** The page of one device. */
export function DevicePage(): ReactNode {
  const { uid } = route.useParams()
  const admin = useAdmin()
  const client = useQueryClient()
  const query = useQuery(deviceQuery(uid))
  useLiveUpdates(useMemo(() => [uid], [uid]))
  useDeviceEvents(uid, () => void client.invalidateQueries({ queryKey: ['device', uid] }, { cancelRefetch: false }))
  useEffect(() => changePreferences('device_view_state', { last_device: uid }), [uid])

  if (query.isPending) return <LoadingRows rows={8} />
  if (query.data === undefined)
    return (
      <>
        <PageTitle title={uid} />
        <ErrorAlert thrown={query.error} retry={() => void query.refetch()} title="This device cannot be shown" />
        <Text mt="md" size="sm">
          <Link to="/devices">All devices</Link>
        </Text>
      </>
    )
  // With a key, so that the state of one device's page is never shown for another device.
  return <DeviceDetails key={uid} device={query.data} query={query} admin={admin} />
}

interface DeviceDetailsProps {
  device: Device
  query: { isError: boolean; error: unknown; refetch: () => unknown }
  admin: boolean
}

function DeviceDetails({ device, query, admin }: DeviceDetailsProps): ReactNode {
  const presence = usePresence(device)
  const online = presence !== 'offline'
  const owner = device.access === 'owner' || device.access === 'admin'
  return (
    <>
      <PageTitle title={deviceName(device)}>
        <PresenceBadge presence={presence} />
        {device.access !== 'owner' && <Badge variant="outline" className="hx-badge">{device.access === 'admin' ? 'as admin' : `shared: ${device.access}`}</Badge>}
      </PageTitle>
      {query.isError && <ErrorAlert thrown={query.error} title="This page may be outdated" retry={() => void query.refetch()} />}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="md">
        <Stack>
          <Card id="device.relays" title="Relays">
            <Relays device={device} online={online} />
          </Card>
          <Card id="device.facts" title="About">
            <About device={device} />
          </Card>
          {owner && (
            <Card id="device.names" title="Names">
              <RenameDevice device={device} />
            </Card>
          )}
        </Stack>
        <Stack>
          <Card id="device.history" title="History">
            <History device={device} />
          </Card>
          <Card id="device.grants" title="Sharing">
            <DeviceGrants device={device} />
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
