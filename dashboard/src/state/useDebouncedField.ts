/** A field whose text is somewhere else as well, such as in the address: what is typed goes there after a moment. */
import { useEffect, useRef, useState } from 'react'

const TYPED_MS = 300

/** The text of the field, and what sets it; `commit` gets it without the blanks around it. */
export function useTyped(value: string, commit: (next: string) => void): [string, (next: string) => void] {
  const [text, setText] = useState(value)
  const [seen, setSeen] = useState(value)
  if (seen !== value) {
    // Changed from elsewhere: an address, a button. Or it is what was typed here.
    setSeen(value)
    if (text.trim() !== value) setText(value)
  }
  // What is in effect by then, not what was when the typing began: another filter may have been chosen.
  const latest = useRef(commit)
  useEffect(() => {
    latest.current = commit
  })
  useEffect(() => {
    if (text.trim() === value) return
    const timer = setTimeout(() => latest.current(text.trim()), TYPED_MS)
    return () => clearTimeout(timer)
    // eslint-disable-next-line react-hooks/exhaustive-deps -- when somebody has typed
  }, [text])
  return [text, setText]
}
