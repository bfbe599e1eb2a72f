import { Alert, Badge, SimpleGrid, Stack, Text } from '@mantine/core'
import { useQuery, useQueryClient } from '@tanstack/react-query'
import { Link } from '@tanstack/react-router'
import { type ReactNode, useEffect, useMemo } from 'react'
import type { Device } from '../../api/client'
import { deviceQuery, historyPages } from '../../api/queries'
import { deviceRoute } from '../../router'
import { useDeviceEvents, useLive, usePresence, useWatch } from '../../state/live'
import { useTimeline } from '../../state/useTimeline'
import { change } from '../../state/preferences'
import { AuditList, Earlier } from '../../ui/AuditList'
import { useAdmin } from '../../state/useSession'
import { Card } from '../../ui/Card'
import { Fact, PageTitle, PresenceBadge, Waiting, When } from '../../ui/bits'
import { Problem } from '../../ui/ErrorAlert'
import { AllRelays, RelayToggle } from './RelayToggle'
import { DeviceActions } from './DeviceActions'
import { Grants } from './sharing/DeviceGrants'
import { Rename } from './RenameDevice'

const namesOf = (device: Device) => new Map(device.relays.flatMap((r) => (r.name === null ? [] : [[r.index, r.name] as const])))

function Relays({ device, online }: { device: Device; online: boolean }): ReactNode {
  const both = device.access === 'owner' || device.access === 'admin' || device.relays.length === device.relay_count
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
        <AllRelays device={device} disabled={!online} />
      )}
    </Stack>
  )
}

function Facts({ device }: { device: Device }): ReactNode {
  const live = useLive(device.uid)
  const action = device.last_action
  const names = namesOf(device)
  const [heard, told] = [live.lastInput, device.last_input_event]
  const input = heard !== null && (told === null || Date.parse(heard.at) >= Date.parse(told.at)) ? heard : told
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
        {device.owner != null && (
          <>
            by <Link to="/users/$id" params={{ id: device.owner.id }}>{device.owner.name ?? device.owner.email}</Link>,{' '}
          </>
        )}
        <When at={device.claimed_at} />
      </Fact>
      <Fact name="Last action">
        {action == null ? (
          'none since the server started'
        ) : (
          <>
            {action.relays.map((r) => `${names.get(r.index) ?? `relay ${r.index}`} ${r.state ? 'on' : 'off'}`).join(', ')} via {action.source}, <When at={action.at} />
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
  const { rows, still, newest, happened, query } = useTimeline(historyPages(device.uid), false)
  useDeviceEvents(device.uid, happened)
  const names = useMemo(() => namesOf(device), [device])
  return (
    <>
      {query.isPending && <Waiting />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} />}
      {!query.isPending && !(query.isError && rows.length === 0) && <AuditList rows={rows} names={names} />}
      <Earlier query={query} still={still} newest={newest} />
    </>
  )
}

/** One device. */
export function DevicePage(): ReactNode {
  const { uid } = deviceRoute.useParams()
  const admin = useAdmin()
  const client = useQueryClient()
  const query = useQuery(deviceQuery(uid))
  useWatch(useMemo(() => [uid], [uid]))
  useDeviceEvents(uid, () => void client.invalidateQueries({ queryKey: ['device', uid] }, { cancelRefetch: false }))
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
  // Another device is another page: nothing that was begun for this one is shown there.
  return <Shown key={uid} device={query.data} query={query} admin={admin} />
}

interface ShownProps {
  device: Device
  query: { isError: boolean; error: unknown; refetch: () => unknown }
  admin: boolean
}

function Shown({ device, query, admin }: ShownProps): ReactNode {
  const presence = usePresence(device)
  const online = presence !== 'offline'
  const owner = device.access === 'owner' || device.access === 'admin'
  return (
    <>
      <PageTitle title={device.name ?? device.uid}>
        <PresenceBadge presence={presence} />
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
              <Rename device={device} />
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
