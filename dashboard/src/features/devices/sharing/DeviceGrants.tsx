import { Badge, Button, Group, MultiSelect, NumberInput, Select, Stack, Text, TextInput } from '@mantine/core'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, type SubmitEvent, useState } from 'react'
import { api, type Device, unwrap, type Grant } from '../../../api/client'
import { idempotencyHeader } from '../../../api/idempotency'
import { withIdempotencyKey } from '../../../state/idempotentRequest'
import { ConfirmDialog } from '../../../ui/ConfirmDialog'
import { EmptyState } from '../../../ui/EmptyState'
import { ErrorAlert, notifySuccess } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { RelativeTime } from '../../../ui/RelativeTime'
import { grantsQuery } from '../queries'

const HOURS = [
  { value: '', label: 'no limit' },
  { value: '1', label: '1 hour' },
  { value: '24', label: '1 day' },
  { value: '168', label: '1 week' },
]

function Share({ device }: { device: Device }): ReactNode {
  const [email, setEmail] = useState('')
  const [access, setAccess] = useState<'read' | 'control'>('control')
  const [relays, setRelays] = useState<string[]>([])
  const [hours, setHours] = useState('')
  const [uses, setUses] = useState<number | string>('')
  const client = useQueryClient()
  const share = useMutation({
    mutationFn: () => {
      const body = {
        email: email.trim(),
        access,
        ...(relays.length === 0 ? {} : { relays: relays.map(Number) }),
        ...(typeof uses === 'number' ? { max_uses: uses } : {}),
      }
      return withIdempotencyKey(['share', device.uid, body, hours], (key, at) => {
        const expires_at = hours === '' ? {} : { expires_at: new Date(at + Number(hours) * 3_600_000).toISOString() }
        const params = { path: { uid: device.uid }, header: idempotencyHeader(key) }
        return unwrap(api().POST('/api/v1/devices/{uid}/grants', { params, body: { ...body, ...expires_at } }))
      })
    },
    onSuccess: (grant) => {
      void client.invalidateQueries({ queryKey: ['grants', device.uid] })
      notifySuccess(`Shared with ${grant.user.email}`)
      setEmail('')
    },
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    share.mutate()
  }
  return (
    <form onSubmit={submit}>
      <Stack gap="xs">
        <TextInput label="Share with" type="email" placeholder="e-mail of their account" required value={email} onChange={(e) => setEmail(e.currentTarget.value)} autoComplete="off" />
        <Group grow gap="xs" align="flex-end">
          <Select
            label="Access"
            data={[{ value: 'control', label: 'view and switch' }, { value: 'read', label: 'view only' }]}
            value={access}
            onChange={(next) => setAccess(next === 'read' ? 'read' : 'control')}
            allowDeselect={false}
          />
          <Select label="Duration" data={HOURS} value={hours} onChange={(next) => setHours(next ?? '')} allowDeselect={false} />
          <NumberInput label="Commands" placeholder="no limit" min={1} max={1_000_000} allowDecimal={false} value={uses} onChange={setUses} disabled={access === 'read'} />
        </Group>
        <MultiSelect
          label="Relays"
          placeholder={relays.length === 0 ? 'whole device' : ''}
          data={device.relays.map((r) => ({ value: String(r.index), label: r.name ?? `Relay ${r.index}` }))}
          value={relays}
          onChange={setRelays}
        />
        {share.isError && <ErrorAlert thrown={share.error} title="The device was not shared" />}
        <Group>
          <Button type="submit" size="xs" loading={share.isPending}>
            Share
          </Button>
        </Group>
      </Stack>
    </form>
  )
}

/** The accounts that a device is shared with: owners share it and end sharing, others may leave. */
export function DeviceGrants({ device }: { device: Device }): ReactNode {
  const query = useQuery(grantsQuery(device.uid))
  const [ending, setEnding] = useState<Grant | null>(null)
  const client = useQueryClient()
  const owner = device.access === 'owner' || device.access === 'admin'
  const grants = query.data?.items ?? []
  const describe = (grant: Grant) =>
    [
      grant.access === 'control' ? 'can switch' : 'view only',
      grant.relays == null ? 'whole device' : `relays ${grant.relays.join(', ')}`,
      grant.uses_left == null ? '' : `${grant.uses_left} of ${grant.max_uses ?? 0} commands left`,
    ]
      .filter((part) => part !== '')
      .join(' · ')
  return (
    <Stack>
      {query.isPending && <LoadingRows rows={2} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} />}
      {query.isSuccess && grants.length === 0 && (
        <EmptyState title="Not shared">Share it with family, guests or a caretaker, for a limited time or number of commands.</EmptyState>
      )}
      {grants.map((grant) => (
        <Group key={grant.id} justify="space-between" wrap="nowrap">
          <Stack gap={0} miw={0}>
            <Text size="sm" truncate>
              {grant.user.name ?? grant.user.email}
            </Text>
            <Text size="xs" c="dimmed">
              {describe(grant)}
            </Text>
            {grant.expires_at != null && (
              <Badge size="sm" variant="light" color="gray" className="hx-badge">
                expires <RelativeTime at={grant.expires_at} />
              </Badge>
            )}
          </Stack>
          <Button size="compact-xs" variant="default" onClick={() => setEnding(grant)}>
            {owner ? 'End' : 'Leave'}
          </Button>
        </Group>
      ))}
      {owner && device.claimed_at != null && <Share device={device} />}
      <ConfirmDialog
        opened={ending !== null}
        close={() => setEnding(null)}
        title={owner ? 'End sharing' : 'Leave this device'}
        action={owner ? 'End sharing' : 'Leave'}
        danger
        run={async () => {
          await unwrap(api().DELETE('/api/v1/devices/{uid}/grants/{id}', { params: { path: { uid: device.uid, id: ending?.id ?? '' } } }))
          await client.invalidateQueries({ queryKey: ['grants', device.uid] })
        }}
      >
        {owner ? `${ending?.user.email ?? ''} loses access immediately.` : 'You lose access to this device immediately.'}
      </ConfirmDialog>
    </Stack>
  )
}
