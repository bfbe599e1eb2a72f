import { Button, Group, Stack, Text } from '@mantine/core'
import { type ReactNode, useState } from 'react'
import type { Schemas } from '../../../api/client'
import { ConfirmDialog } from '../../../ui/ConfirmDialog'
import { EmptyState } from '../../../ui/EmptyState'
import { RelativeTime } from '../../../ui/RelativeTime'

type Token = Schemas['TokenBody']

interface TokenListProps {
  tokens: readonly Token[]
  revoke: (id: string) => Promise<unknown>
}

/** The access tokens of an account. */
export function TokenList({ tokens, revoke }: TokenListProps): ReactNode {
  const [revoking, setRevoking] = useState<Token | null>(null)
  return (
    <Stack gap="sm">
      {tokens.length === 0 && <EmptyState title="No tokens">Scripts and programs sign in with access tokens. Each has only the permissions that it was given, and can be revoked separately.</EmptyState>}
      {tokens.map((token) => (
        <Group key={token.id} justify="space-between" wrap="nowrap" data-token={token.id}>
          <Stack gap={0} miw={0}>
            <Text size="sm" truncate>
              {token.name}
            </Text>
            <Text size="xs" c="dimmed">
              {token.scopes.join(', ')} · expires <RelativeTime at={token.expires_at} /> · last used <RelativeTime at={token.last_used_at} />
            </Text>
          </Stack>
          <Button size="compact-xs" variant="default" onClick={() => setRevoking(token)}>
            Revoke
          </Button>
        </Group>
      ))}
      <ConfirmDialog opened={revoking !== null} close={() => setRevoking(null)} title={`Revoke ${revoking?.name ?? ''}`} action="Revoke" danger run={() => revoke(revoking?.id ?? '')}>
        Programs that use this token are refused from their next request on.
      </ConfirmDialog>
    </Stack>
  )
}
