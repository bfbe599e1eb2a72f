import { Button, type ButtonProps } from '@mantine/core'
import { type ReactNode, useEffect, useState } from 'react'

/** How long the result is shown. */
const RESULT_MS = 1_500

/** Copies a text; whether it worked. The clipboard API is for secure pages only, `execCommand` works on all. */
async function copy(text: string): Promise<boolean> {
  const clipboard = (navigator as { clipboard?: Clipboard }).clipboard
  if (clipboard !== undefined) {
    try {
      await clipboard.writeText(text)
      return true
    } catch {
      // Not allowed on this page: fall back to `execCommand`.
    }
  }
  const area = Object.assign(document.createElement('textarea'), { value: text })
  area.setAttribute('readonly', '')
  area.className = 'hx-away'
  const before = document.activeElement
  // Inside an open dialog, which would take the focus back.
  const parent = before?.closest('[role="dialog"]') ?? document.body
  parent.append(area)
  area.select()
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- the only way on a page that is not secure
  const done = document.execCommand('copy')
  area.remove()
  if (before instanceof HTMLElement) before.focus({ preventScroll: true })
  return done
}

/** A button that copies a text, and shows whether that worked. */
export function CopyButton({ text, label = 'Copy', ...button }: { text: string; label?: string } & ButtonProps): ReactNode {
  const [result, setResult] = useState<string | null>(null)
  useEffect(() => {
    if (result === null) return
    const timer = setTimeout(() => setResult(null), RESULT_MS)
    return () => clearTimeout(timer)
  }, [result])
  return (
    <Button {...button} onClick={() => void copy(text).then((done) => setResult(done ? 'Copied' : 'Copy failed: select the text and copy it'))}>
      <span aria-live="polite">{result ?? label}</span>
    </Button>
  )
}
