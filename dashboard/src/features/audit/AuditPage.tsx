import { Button, Menu, Paper, Switch } from '@mantine/core'
import { IconDownload } from '@tabler/icons-react'
import { useMutation } from '@tanstack/react-query'
import { type ReactNode, useRef, useState } from 'react'
import { askText } from '../../api/client'
import { auditPages, auditParameters, type AuditQuery } from '../../api/queries'
import { auditRoute } from '../../router'
import { useTimeline } from '../../state/useTimeline'
import { AuditList, Earlier } from '../../ui/AuditList'
import { PageTitle, Waiting } from '../../ui/bits'
import { notifyDone, Problem } from '../../ui/ErrorAlert'
import { Filters } from './AuditFilters'

const LIVE_MS = 3_000

async function download(query: AuditQuery, format: 'csv' | 'jsonl', progress: (bytes: number) => void, signal: AbortSignal): Promise<void> {
  const parameters = new URLSearchParams({ format, ...(auditParameters(query) as Record<string, string>) })
  const response = await askText(`/api/v1/admin/audit/export?${parameters.toString()}`, signal)
  const parts: Uint8Array<ArrayBuffer>[] = []
  let bytes = 0
  const reader = response.body?.getReader()
  if (reader === undefined) return
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    parts.push(value)
    bytes += value.length
    progress(bytes)
  }
  const name = /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1] ?? `hexa-audit.${format}`
  const url = URL.createObjectURL(new Blob(parts, { type: response.headers.get('content-type') ?? '' }))
  const link = Object.assign(document.createElement('a'), { href: url, download: name })
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 10_000)
}

/** Who did what, through which door, and how it ended. */
export function Audit(): ReactNode {
  const search = auditRoute.useSearch()
  const navigate = auditRoute.useNavigate()
  const [live, setLive] = useState(true)
  const [bytes, setBytes] = useState(0)
  const query: AuditQuery = {
    actor: search.actor ?? '',
    device: search.device ?? '',
    action: search.action ?? '',
    outcome: search.outcome ?? '',
    source: search.source ?? '',
    since: search.since ?? '',
    until: search.until ?? '',
  }
  const update = (members: Partial<AuditQuery>) => {
    const next = Object.fromEntries(Object.entries({ ...query, ...members }).filter(([, value]) => value !== ''))
    void navigate({ search: next, replace: true })
  }
  const { rows, still, newest, query: asked } = useTimeline(auditPages(query), live ? LIVE_MS : false)
  const stop = useRef<AbortController | null>(null)
  const cancel = () => {
    stop.current?.abort()
    fetching.reset()
  }
  const fetching = useMutation({
    mutationFn: (format: 'csv' | 'jsonl') => {
      stop.current = new AbortController()
      return download(query, format, setBytes, stop.current.signal)
    },
    onMutate: () => setBytes(0),
    onSuccess: () => notifyDone('The export is complete'),
  })
  return (
    <>
      <PageTitle title="Audit">
        <Switch label="Live" checked={live} onChange={(e) => setLive(e.currentTarget.checked)} />
        {fetching.isPending && (
          <Button variant="subtle" onClick={cancel}>
            Cancel the export
          </Button>
        )}
        <Menu position="bottom-end">
          <Menu.Target>
            <Button variant="default" aria-busy={fetching.isPending} leftSection={<IconDownload size={16} aria-hidden />} disabled={fetching.isPending}>
              {fetching.isPending ? `Exporting, ${Math.round(bytes / 1024)} KB` : 'Export'}
            </Button>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Label>Every row that fits the filters</Menu.Label>
            <Menu.Item onClick={() => fetching.mutate('csv')}>CSV for spreadsheets</Menu.Item>
            <Menu.Item onClick={() => fetching.mutate('jsonl')}>JSON lines</Menu.Item>
          </Menu.Dropdown>
        </Menu>
      </PageTitle>
      <Filters query={query} update={update} />
      {fetching.isError && <Problem thrown={fetching.error} title="The export is not complete" />}
      {asked.isPending && <Waiting rows={8} />}
      {asked.isError && <Problem thrown={asked.error} retry={() => void asked.refetch()} title="The audit cannot be shown" />}
      {!asked.isPending && !(asked.isError && rows.length === 0) && (
        <Paper withBorder px="md" py="xs">
          <AuditList rows={rows} whole filtered={Object.values(query).some((value) => value !== '')} />
          <Earlier query={asked} still={still} newest={newest} />
        </Paper>
      )}
    </>
  )
}
