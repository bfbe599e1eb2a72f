import { ActionIcon, Badge, Box, Button, Code, Group, Text } from '@mantine/core'
import { IconChevronDown, IconChevronRight } from '@tabler/icons-react'
import { Link } from '@tanstack/react-router'
import { Fragment, type ReactNode, useState } from 'react'
import type { AuditRow, HistoryRow } from '../api/client'
import { Empty, When } from './bits'

const GOOD = new Set(['executed', 'noop', 'done', 'healed', 'late_ack'])
const UNSURE = new Set(['timeout', 'mismatch'])

/** What happened, in words; what has none here is shown as it is called. */
const WORDS: Record<string, string> = {
  state_report: 'reported its state',
  'device.provisioned': 'provisioned',
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
  'user.session_ended': 'ended a session of an account',
  'user.token_revoked': 'revoked an access token of an account',
  'invitation.created': 'invited somebody',
  'invitation.used': 'used an invitation',
  'invitation.revoked': 'took an invitation back',
  'keys.rotated': 'rotated the signing key',
  'security.login_failed': 'wrong password',
  'security.refresh_repeated': 'asked twice for the token that follows',
  'audit.exported': 'exported the audit',
  'clock.believed': 'vouched for the clock at a start',
  'clock.set_right': 'put times right that were written while the clock was ahead',
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
  return name === row.source ? name : `${name} via ${row.source}`
}

interface EarlierProps {
  query: { hasNextPage: boolean; isFetchingNextPage: boolean; fetchNextPage: () => unknown }
  still: boolean
  newest: () => void
}

/** The way to earlier rows, and back to the newest. */
export function Earlier({ query, still, newest }: EarlierProps): ReactNode {
  if (!query.hasNextPage && !still) return null
  return (
    <Group justify="center" p="sm" gap="xs">
      {query.hasNextPage && (
        <Button variant="default" size="xs" loading={query.isFetchingNextPage} onClick={() => void query.fetchNextPage()}>
          Earlier
        </Button>
      )}
      {still && (
        <Button variant="default" size="xs" onClick={newest}>
          Back to the newest
        </Button>
      )}
    </Group>
  )
}

/** Tells a row from every other one: each chain has numbers of its own. */
function place(row: AuditRow): string {
  return `${row.chain} ${row.seq}`
}

/** All that the audit has of a row, for whoever wants to look something up. */
function Whole({ row }: { row: AuditRow }): ReactNode {
  const facts: [string, string | null][] = [
    ['Number', `${row.seq} of chain ${row.chain}`],
    ['Time', row.at],
    ['Account', row.actor.id === null ? row.actor.kind : `${row.actor.email ?? ''} ${row.actor.id}`],
    ['Source', row.source],
    ['Action', row.action],
    ['Device', row.device_uid],
    ['Command', row.command_id],
    ['Follow-up', row.follow_up ? 'yes: told after the command had ended' : null],
  ]
  return (
    <Box component="dl" m={0} pb="xs" fz="xs" className="hx-facts" data-whole={place(row)}>
      {facts.map(
        ([name, value]) =>
          value !== null && (
            <Fragment key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </Fragment>
          ),
      )}
      {row.details != null && (
        <>
          <dt>Details</dt>
          <dd>
            <Code>{JSON.stringify(row.details)}</Code>
          </dd>
        </>
      )}
    </Box>
  )
}

interface AuditListProps {
  rows: readonly (AuditRow | HistoryRow)[]
  names?: ReadonlyMap<number, string>
  /** Rows open to all that is known of them. */
  whole?: boolean
  /** Some are left out. */
  filtered?: boolean
}

/** Rows of the audit or of a device's history. */
export function AuditList({ rows, names, whole, filtered }: AuditListProps): ReactNode {
  const [open, setOpen] = useState<string | null>(null)
  if (rows.length === 0 && filtered === true) return <Empty title="No row matches">Nothing that happened has all of these properties.</Empty>
  if (rows.length === 0) return <Empty title="Nothing happened yet">Every command and every change of accounts and devices is written down here.</Empty>
  return (
    <Box role="list">
      {rows.map((row, n) => (
        <Box key={'seq' in row ? place(row) : `${row.at} ${n}`} role="listitem" className="hx-line">
          <Group justify="space-between" wrap="nowrap" gap="sm" py={6}>
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
                {row.latency_ms == null ? '' : ` · ${row.latency_ms} ms`}
              </Text>
            </Box>
            <Group gap="xs" wrap="nowrap" className="hx-end">
              <Badge
                variant="light"
                color={GOOD.has(row.outcome) ? 'teal' : UNSURE.has(row.outcome) ? 'yellow' : 'red'}
                className={`hx-badge ${GOOD.has(row.outcome) ? 'hx-online' : UNSURE.has(row.outcome) ? 'hx-stale' : ''}`}
              >
                {row.outcome}
              </Badge>
              <Box className="hx-when">
                <When at={row.at} />
              </Box>
              {whole === true && 'seq' in row && (
                <ActionIcon
                  variant="subtle"
                  color="gray"
                  aria-expanded={open === place(row)}
                  aria-label={`${open === place(row) ? 'Fold' : 'Open'} row ${row.seq}`}
                  onClick={() => setOpen(open === place(row) ? null : place(row))}
                >
                  {open === place(row) ? <IconChevronDown size={16} aria-hidden /> : <IconChevronRight size={16} aria-hidden />}
                </ActionIcon>
              )}
            </Group>
          </Group>
          {'seq' in row && open === place(row) && <Whole row={row} />}
        </Box>
      ))}
    </Box>
  )
}
