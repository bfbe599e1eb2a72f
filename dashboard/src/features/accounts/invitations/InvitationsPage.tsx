import { Badge, Button, Group, Modal, Paper, Select, Stack, Table, Text, TextInput } from '@mantine/core'
import { keepPreviousData, useInfiniteQuery, useMutation, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, type SubmitEvent, useState } from 'react'
import { api, ask, type Invitation } from '../../../api/client'
import { type InvitationQuery, invitationsQuery } from '../../../api/queries'
import { keyed, once } from '../../../state/idempotentRequest'
import { Confirm } from '../../../ui/ConfirmDialog'
import { Problem } from '../../../ui/ErrorAlert'
import { Secret } from '../../../ui/SecretDialog'
import { Empty, PageTitle, Waiting, When } from '../../../ui/bits'

const STATES = [
  { value: '', label: 'Every state' },
  { value: 'open', label: 'Open' },
  { value: 'used', label: 'Used' },
  { value: 'expired', label: 'Over' },
  { value: 'revoked', label: 'Taken back' },
] as const

const WORDS: Record<string, string> = { open: 'open', used: 'used', expired: 'over', revoked: 'taken back' }

/** Asks whom a new one is for. */
function Invite({ opened, close, made }: { opened: boolean; close: () => void; made: (link: string) => void }): ReactNode {
  const [email, setEmail] = useState('')
  const [note, setNote] = useState('')
  const client = useQueryClient()
  const invite = useMutation({
    mutationFn: () => {
      const given = { ...(email.trim() === '' ? {} : { email: email.trim() }), ...(note.trim() === '' ? {} : { note: note.trim() }) }
      return once(['invite', given], (key) => ask(api().POST('/api/v1/admin/invitations', { params: { header: keyed(key) }, body: given })))
    },
    onSuccess: (invitation) => {
      void client.invalidateQueries({ queryKey: ['invitations'] })
      setEmail('')
      setNote('')
      close()
      made(invitation.link)
    },
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (!invite.isPending) invite.mutate()
  }
  return (
    <Modal opened={opened} onClose={() => { if (!invite.isPending) { invite.reset(); close() } }} title="Invite somebody" closeButtonProps={{ 'aria-label': 'Close' }}>
      <form onSubmit={submit}>
        <Stack>
          <Text size="sm">A link with which one account can be made, within 7 days. It is good for as long as you are an admin.</Text>
          <TextInput label="E-mail" type="email" description="Only this one may be registered with it; leave it out for any" value={email} onChange={(e) => setEmail(e.currentTarget.value)} autoComplete="off" data-autofocus />
          <TextInput label="Note" description="For this list" maxLength={64} value={note} onChange={(e) => setNote(e.currentTarget.value)} autoComplete="off" />
          {invite.isError && <Problem thrown={invite.error} title="No invitation was made" />}
          <Group justify="flex-end">
            <Button type="submit" loading={invite.isPending}>
              Make the link
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  )
}

/** Who was invited, by whom, and what became of it. */
export function Invitations(): ReactNode {
  const [state, setState] = useState<InvitationQuery['state']>('')
  const [asking, setAsking] = useState(false)
  const [link, setLink] = useState<string | null>(null)
  const [ending, setEnding] = useState<Invitation | null>(null)
  const client = useQueryClient()
  const query = useInfiniteQuery({ ...invitationsQuery({ state }), placeholderData: keepPreviousData })
  const invitations = query.data?.pages.flatMap((page) => page.items) ?? []
  return (
    <>
      <PageTitle title="Invitations">
        <Button size="xs" onClick={() => setAsking(true)}>
          Invite somebody
        </Button>
      </PageTitle>
      <Group mb="sm" gap="xs" role="search">
        <Select aria-label="State" data={STATES} value={state} onChange={(next) => setState(next ?? '')} w={160} allowDeselect={false} />
      </Group>
      {query.isPending && <Waiting rows={4} />}
      {query.isError && <Problem thrown={query.error} retry={() => void query.refetch()} title="The invitations cannot be shown" />}
      {query.isSuccess && invitations.length === 0 && (
        <Paper withBorder>
          <Empty title={state === '' ? 'Nobody was invited' : 'No invitation is in this state'}>
            Whoever opens the link of an invitation can make an account, also where REGISTRATION is invite. Those that ended are kept for 30 days.
          </Empty>
        </Paper>
      )}
      {invitations.length > 0 && (
        <Paper withBorder>
          <Table.ScrollContainer minWidth={620}>
            <Table verticalSpacing="xs" highlightOnHover>
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>For</Table.Th>
                  <Table.Th>State</Table.Th>
                  <Table.Th>Made</Table.Th>
                  <Table.Th>Until</Table.Th>
                  <Table.Th aria-label="Actions" />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {invitations.map((one) => (
                  <Table.Tr key={one.id} data-invitation={one.id} data-state={one.state}>
                    <Table.Td>
                      <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                        {one.note ?? one.email ?? 'anybody'}
                      </Text>
                      {one.note != null && one.email != null && (
                        <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                          {one.email}
                        </Text>
                      )}
                    </Table.Td>
                    <Table.Td>
                      <Badge variant={one.state === 'open' ? 'filled' : 'outline'} className={one.state === 'open' ? '' : 'hx-badge'} tt="none">
                        {WORDS[one.state] ?? one.state}
                      </Badge>
                      {one.used_by != null && (
                        <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                          by {one.used_by.email}
                        </Text>
                      )}
                    </Table.Td>
                    <Table.Td fz="sm">
                      <When at={one.created_at} />
                      <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                        by {one.made_by.name ?? one.made_by.email}
                      </Text>
                    </Table.Td>
                    <Table.Td fz="sm">
                      <When at={one.ended_at ?? one.expires_at} />
                    </Table.Td>
                    <Table.Td ta="right">
                      {one.state === 'open' && (
                        <Button size="compact-sm" variant="default" onClick={() => setEnding(one)} aria-label={`Take back the invitation for ${one.note ?? one.email ?? 'anybody'}`}>
                          Take back
                        </Button>
                      )}
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
          {query.hasNextPage && (
            <Group justify="center" p="sm">
              <Button variant="default" size="xs" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
                More
              </Button>
            </Group>
          )}
        </Paper>
      )}
      <Invite opened={asking} close={() => setAsking(false)} made={setLink} />
      <Secret title="The link of the invitation" value={link} close={() => setLink(null)}>
        It is shown once, is good once, and for 7 days. Give it to nobody but whom you invite.
      </Secret>
      <Confirm
        opened={ending !== null}
        close={() => setEnding(null)}
        title="Take the invitation back"
        action="Take it back"
        danger
        run={async () => {
          await ask(api().DELETE('/api/v1/admin/invitations/{id}', { params: { path: { id: ending?.id ?? '' } } }))
          await client.invalidateQueries({ queryKey: ['invitations'] })
        }}
      >
        Whoever has its link can make no account with it any more.
      </Confirm>
    </>
  )
}
