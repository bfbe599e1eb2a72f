import { Badge, Box, Group, Text } from '@mantine/core'
import { Link } from '@tanstack/react-router'
import type { ReactNode } from 'react'
import type { AuditRow, HistoryRow } from '../api/client'
import { Empty, When } from './bits'

const GOOD = new Set(['executed', 'noop', 'done', 'healed', 'late_ack'])
const UNSURE = new Set(['timeout', 'mismatch'])

/** What happened, in words; what has none here is shown as it is called. */
const WORDS: Record<string, string> = {
  state_report: 'reported its state',
  'device.provisioned': 'came in',
  'device.claimed': 'claimed',
  'device.released': 'released',
  'device.renamed': 'renamed',
  'device.deleted': 'deleted',
  'device.shared': 'shared',
  'device.grant_revoked': 'sharing ended',
  'device.grant_expired': 'sharing ended by its time',
  'device.grant_used_up': 'sharing used up',
  'device.claim_code_renewed': 'new claim code',
  'device.token_rotated': 'token rotated',
  'account.signed_in': 'signed in',
  'account.registered': 'made an account',
  'account.password_changed': 'changed the password',
  'account.session_ended': 'ended a session',
  'account.sessions_ended': 'ended other sessions',
  'account.token_created': 'made an access token',
  'account.token_revoked': 'revoked an access token',
  'user.changed': 'changed an account',
  'user.sessions_ended': 'ended the sessions of an account',
  'keys.rotated': 'rotated the signing key',
  'security.login_failed': 'wrong password',
  'audit.exported': 'exported the audit',
}

/** A row in words; `names` are those of the device's relays. */
export function sentence(row: AuditRow | HistoryRow, names?: ReadonlyMap<number, string>): string {
  const called = (index: number) => names?.get(index) ?? `relay ${index}`
  const relay = row.relay === null ? 'all relays' : called(row.relay)
  if (row.action === 'set_relay' || row.action === 'set_all_relays')
    return `${row.state === true ? 'switch on' : 'switch off'} ${relay}`
  const what = WORDS[row.action] ?? row.action
  if (row.changes.length === 0) return what
  return `${what}: ${row.changes.map((c) => `${called(c.index)} ${c.state ? 'on' : 'off'}`).join(', ')}`
}

/** In whose name, and through which door where that says more. */
function who(row: AuditRow | HistoryRow): string {
  const name = row.actor.email ?? row.actor.kind
  return name === row.source ? name : `${name} by ${row.source}`
}

/** Rows of the audit or of a device's history. */
export function AuditList({ rows, names }: { rows: readonly (AuditRow | HistoryRow)[]; names?: ReadonlyMap<number, string> }): ReactNode {
  if (rows.length === 0) return <Empty title="Nothing happened yet">Every command and every change of accounts and devices is written down here.</Empty>
  return (
    <Box role="list">
      {rows.map((row, n) => (
        <Group
          key={'seq' in row ? row.seq : `${row.at} ${n}`}
          role="listitem"
          justify="space-between"
          wrap="nowrap"
          gap="sm"
          py={6}
          style={{ borderBottom: '1px solid var(--mantine-color-default-border)' }}
        >
          <Box miw={0} flex={1}>
            <Text size="sm" style={{ overflowWrap: 'anywhere' }}>
              {sentence(row, names)}
              {'device_uid' in row && row.device_uid != null && (
                <>
                  {' · '}
                  <Link to="/devices/$uid" params={{ uid: row.device_uid }}>
                    {row.device_name ?? row.device_uid}
                  </Link>
                </>
              )}
            </Text>
            <Text size="xs" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
              {who(row)}
              {row.latency_ms == null ? '' : ` in ${row.latency_ms} ms`}
            </Text>
          </Box>
          <Group gap="xs" wrap="nowrap" style={{ flexShrink: 0 }}>
            <Badge
              variant="light"
              color={GOOD.has(row.outcome) ? 'teal' : UNSURE.has(row.outcome) ? 'yellow' : 'red'}
              className={`hx-badge ${GOOD.has(row.outcome) ? 'hx-online' : UNSURE.has(row.outcome) ? 'hx-stale' : ''}`}
            >
              {row.outcome}
            </Badge>
            <Box w={112} ta="right" fz="sm" style={{ whiteSpace: 'nowrap' }}>
              <When at={row.at} />
            </Box>
          </Group>
        </Group>
      ))}
    </Box>
  )
}
