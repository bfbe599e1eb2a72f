import { Badge, Button, Group, MultiSelect, NumberInput, Select, Stack, Text, TextInput } from '@mantine/core'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, type SubmitEvent, useState } from 'react'
import { api, ask, type Device, type Grant } from '../../../api/client'
import { grantsQuery } from '../../../api/queries'
import { keyed, once } from '../../../state/idempotentRequest'
import { Confirm } from '../../../ui/ConfirmDialog'
import { notifyDone, Problem } from '../../../ui/ErrorAlert'
import { Empty, Waiting, When } from '../../../ui/bits'

const HOURS = [
  { value: '', label: 'for good' },
  { value: '1', label: 'for an hour' },
  { value: '24', label: 'for a day' },
  { value: '168', label: 'for a week' },
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
      return once(['share', device.uid, body, hours], (key, at) => {
        const expires_at = hours === '' ? {} : { expires_at: new Date(at + Number(hours) * 3_600_000).toISOString() }
        const params = { path: { uid: device.uid }, header: keyed(key) }
        return ask(api().POST('/api/v1/devices/{uid}/grants', { params, body: { ...body, ...expires_at } }))
      })
    },
    onSuccess: (grant) => {
      void client.invalidateQueries({ queryKey: ['grants', device.uid] })
      notifyDone(`Shared with ${grant.user.email}`)
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
        <TextInput label="Share with" type="email" placeholder="their e-mail" required value={email} onChange={(e) => setEmail(e.currentTarget.value)} autoComplete="off" />
        <Group grow gap="xs" align="flex-end">
          <Select
            label="To"
            data={[{ value: 'control', label: 'look and switch' }, { value: 'read', label: 'look' }]}
            value={access}
            onChange={(next) => setAccess(next === 'read' ? 'read' : 'control')}
            allowDeselect={false}
          />
          <Select label="Time" data={HOURS} value={hours} onChange={(next) => setHours(next ?? '')} allowDeselect={false} />
          <NumberInput label="Commands" placeholder="any number" min={1} max={1_000_000} allowDecimal={false} value={uses} onChange={setUses} disabled={access === 'read'} />
        </Group>
        <MultiSelect
          label="Relays"
          placeholder={relays.length === 0 ? 'the whole device' : ''}
          data={device.relays.map((r) => ({ value: String(r.index), label: r.name ?? `Relay ${r.index}` }))}
          value={relays}
          onChange={setRelays}
        />
        {share.isError && <Problem thrown={share.error} title="It was not shared" />}
        <Group>
          <Button type="submit" size="xs" loading={share.isPending}>
            Share
          </Button>
        </Group>
      </Stack>
    </form>
  )
}

/** With whom the device is shared; owners share and take back, guests may leave. */
export function Grants({ device }: { device: Device }): ReactNode {
  const query = useQuery(grantsQuery(device.uid))
  const [ending, setEnding] = useState<Grant | null>(null)
  const client = useQueryClient()
  const owner = device.access === 'owner' || device.access === 'admin'
  const grants = query.data?.items ?? []
  const what = (grant: Grant) =>
    [
      grant.access === 'control' ? 'may switch' : 'may look',
      grant.relays == null ? 'the whole device' : `relays ${grant.relays.join(', ')}`,
      grant.uses_left == null ? '' : `${grant.uses_left} of ${grant.max_uses ?? 0} commands left`,
    ]
      .filter((part) => part !== '')
      .join(' · ')
  return (
    <Stack>
      {query.isPending && <Waiting rows={2} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} />}
      {query.isSuccess && grants.length === 0 && (
        <Empty title="Shared with nobody">Family, guests or a caretaker can look or switch, for a while or a number of commands.</Empty>
      )}
      {grants.map((grant) => (
        <Group key={grant.id} justify="space-between" wrap="nowrap">
          <Stack gap={0} miw={0}>
            <Text size="sm" truncate>
              {grant.user.name ?? grant.user.email}
            </Text>
            <Text size="xs" c="dimmed">
              {what(grant)}
            </Text>
            {grant.expires_at != null && (
              <Badge size="sm" variant="light" color="gray" className="hx-badge">
                ends <When at={grant.expires_at} />
              </Badge>
            )}
          </Stack>
          <Button size="compact-xs" variant="default" onClick={() => setEnding(grant)}>
            {owner ? 'End' : 'Leave'}
          </Button>
        </Group>
      ))}
      {owner && device.claimed_at != null && <Share device={device} />}
      <Confirm
        opened={ending !== null}
        close={() => setEnding(null)}
        title={owner ? 'End sharing' : 'Leave this device'}
        action={owner ? 'End sharing' : 'Leave'}
        danger
        run={async () => {
          await ask(api().DELETE('/api/v1/devices/{uid}/grants/{id}', { params: { path: { uid: device.uid, id: ending?.id ?? '' } } }))
          await client.invalidateQueries({ queryKey: ['grants', device.uid] })
        }}
      >
        {ending?.user.email} loses it at once, also in the middle of what they do.
      </Confirm>
    </Stack>
  )
}
