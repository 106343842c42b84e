// What was answered but not yet acknowledged. It survives a reload and a dead server, and is sent with the same token
// until the server has it, which saves it once.

const AGAIN_MS = 1200;

export class Outbox {
  constructor({ key, csrf, onwaiting }) {
    Object.assign(this, { key, csrf, onwaiting });
  }

  get waiting() {
    return JSON.parse(localStorage.getItem(this.key) ?? "null");
  }

  // Send and return the server's reply: {turn} or {refused} in its own words.
  async send(path, body) {
    localStorage.setItem(this.key, JSON.stringify({ path, body }));
    return this.flush();
  }

  // Send what waits, again and again until it is answered. Returns null when nothing waits.
  async flush() {
    const waiting = this.waiting;
    if (!waiting) return null;
    for (;;) {
      const reply = await this.attempt(waiting);
      if (reply) {
        this.onwaiting(null);
        return reply;
      }
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }

  async attempt({ path, body }) {
    let response;
    try {
      response = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": this.csrf },
        body: JSON.stringify(body),
      });
      if (response.status >= 500) throw new Error(`status ${response.status}`);
      const value = await response.json();
      if (response.status === 401 || response.status === 403) {
        this.onwaiting("login");
        return null;
      }
      localStorage.removeItem(this.key);
      return response.ok ? { turn: value } : { refused: value.error };
    } catch (error) {
      this.onwaiting(response ? "error" : "offline");
      return null;
    }
  }
}

// 16 random bytes as text: makes sending twice harmless.
export function newToken() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
