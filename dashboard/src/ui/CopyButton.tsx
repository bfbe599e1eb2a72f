import { Button, type ButtonProps } from '@mantine/core'
import { type ReactNode, useEffect, useState } from 'react'

const SHOWN_MS = 1_500

/** Puts a text where it can be pasted from. Browsers have their clipboard for secure pages only; the old way is for all. */
async function copy(text: string): Promise<boolean> {
  const clipboard = (navigator as { clipboard?: Clipboard }).clipboard
  if (clipboard !== undefined) {
    try {
      await clipboard.writeText(text)
      return true
    } catch {
      // Not allowed here: the old way.
    }
  }
  const area = Object.assign(document.createElement('textarea'), { value: text })
  area.setAttribute('readonly', '')
  area.className = 'hx-away'
  const before = document.activeElement
  // Inside of a dialog, which keeps the focus.
  const inside = before?.closest('[role="dialog"]') ?? document.body
  inside.append(area)
  area.select()
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- the only way on a page that is not secure
  const done = document.execCommand('copy')
  area.remove()
  if (before instanceof HTMLElement) before.focus({ preventScroll: true })
  return done
}

/** A button that copies, and says whether it could. */
export function Copy({ text, label = 'Copy', ...button }: { text: string; label?: string } & ButtonProps): ReactNode {
  const [said, setSaid] = useState<string | null>(null)
  useEffect(() => {
    if (said === null) return
    const timer = setTimeout(() => setSaid(null), SHOWN_MS)
    return () => clearTimeout(timer)
  }, [said])
  return (
    <Button {...button} onClick={() => void copy(text).then((done) => setSaid(done ? 'Copied' : 'Select and copy it by hand'))}>
      <span aria-live="polite">{said ?? label}</span>
    </Button>
  )
}
