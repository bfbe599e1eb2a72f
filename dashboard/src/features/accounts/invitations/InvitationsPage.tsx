import { Badge, Button, Group, Paper, Select, Table, Text } from '@mantine/core'
import { keepPreviousData, useInfiniteQuery, useQueryClient } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { api, type Invitation, unwrap } from '../../../api/client'
import { ConfirmDialog } from '../../../ui/ConfirmDialog'
import { EmptyState } from '../../../ui/EmptyState'
import { ErrorAlert } from '../../../ui/ErrorAlert'
import { LoadingRows } from '../../../ui/LoadingRows'
import { PageTitle } from '../../../ui/PageTitle'
import { RelativeTime } from '../../../ui/RelativeTime'
import { SecretDialog } from '../../../ui/SecretDialog'
import { type InvitationQuery, invitationsQuery } from '../queries'
import { CreateInvitation } from './CreateInvitation'

const STATES = [
  { value: '', label: 'All states' },
  { value: 'open', label: 'Open' },
  { value: 'used', label: 'Used' },
  { value: 'expired', label: 'Expired' },
  { value: 'revoked', label: 'Revoked' },
] as const

/** The list of invitations, with their states. */
export function InvitationsPage(): ReactNode {
  const [state, setState] = useState<InvitationQuery['state']>('')
  const [creating, setCreating] = useState(false)
  const [link, setLink] = useState<string | null>(null)
  const [revoking, setRevoking] = useState<Invitation | null>(null)
  const client = useQueryClient()
  const query = useInfiniteQuery({ ...invitationsQuery({ state }), placeholderData: keepPreviousData })
  const invitations = query.data?.pages.flatMap((page) => page.items) ?? []
  return (
    <>
      <PageTitle title="Invitations">
        <Button size="xs" onClick={() => setCreating(true)}>
          Create invitation
        </Button>
      </PageTitle>
      <Group mb="sm" gap="xs" role="search">
        <Select aria-label="State" data={STATES} value={state} onChange={(next) => setState(next ?? '')} w={160} allowDeselect={false} />
      </Group>
      {query.isPending && <LoadingRows rows={4} />}
      {query.isError && <ErrorAlert thrown={query.error} retry={() => void query.refetch()} title="The invitations cannot be shown" />}
      {query.isSuccess && invitations.length === 0 && (
        <Paper withBorder>
          <EmptyState title={state === '' ? 'No invitations yet' : 'No invitations in this state'}>
            An invitation is a link to create one account; with REGISTRATION=invite it is the only way. Ended invitations are listed for 30 days.
          </EmptyState>
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
                  <Table.Th>Created</Table.Th>
                  <Table.Th>Ended or expires</Table.Th>
                  <Table.Th aria-label="Actions" />
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {invitations.map((one) => (
                  <Table.Tr key={one.id} data-invitation={one.id} data-state={one.state}>
                    <Table.Td>
                      <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
                        {one.note ?? one.email ?? 'anyone'}
                      </Text>
                      {one.note != null && one.email != null && (
                        <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                          {one.email}
                        </Text>
                      )}
                    </Table.Td>
                    <Table.Td>
                      <Badge variant={one.state === 'open' ? 'filled' : 'outline'} className={one.state === 'open' ? '' : 'hx-badge'} tt="none">
                        {one.state}
                      </Badge>
                      {one.used_by != null && (
                        <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                          by {one.used_by.email}
                        </Text>
                      )}
                    </Table.Td>
                    <Table.Td fz="sm">
                      <RelativeTime at={one.created_at} />
                      <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
                        by {one.made_by.name ?? one.made_by.email}
                      </Text>
                    </Table.Td>
                    <Table.Td fz="sm">
                      <RelativeTime at={one.ended_at ?? one.expires_at} />
                    </Table.Td>
                    <Table.Td ta="right">
                      {one.state === 'open' && (
                        <Button size="compact-sm" variant="default" onClick={() => setRevoking(one)} aria-label={`Revoke the invitation for ${one.note ?? one.email ?? 'anyone'}`}>
                          Revoke
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
                Load more
              </Button>
            </Group>
          )}
        </Paper>
      )}
      <CreateInvitation opened={creating} close={() => setCreating(false)} onCreated={setLink} />
      <SecretDialog title="Invitation link" value={link} close={() => setLink(null)}>
        It is shown only once, works once, and expires in 7 days. Send it only to the person you invite.
      </SecretDialog>
      <ConfirmDialog
        opened={revoking !== null}
        close={() => setRevoking(null)}
        title="Revoke invitation"
        action="Revoke"
        danger
        run={async () => {
          await unwrap(api().DELETE('/api/v1/admin/invitations/{id}', { params: { path: { id: revoking?.id ?? '' } } }))
          await client.invalidateQueries({ queryKey: ['invitations'] })
        }}
      >
        Its link can no longer be used to create an account.
      </ConfirmDialog>
    </>
  )
}
