// A certified OpenID provider with its own pages for signing in. Who may, and what
// is said of them, stands in a file that is read anew every time.
import { readFileSync } from "node:fs"

const { LIBRARY, ADDRESS, REDIRECT, BACK, ACCOUNTS } = process.env
const { default: Provider } = await import(LIBRARY)
const provider = new Provider(`http://${ADDRESS}`, {
  clients: [{
    client_id: "rowcall", client_secret: "a-secret-of-the-client", redirect_uris: [REDIRECT], post_logout_redirect_uris: [BACK],
  }],
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"], groups: ["groups"] },
  scopes: ["openid", "profile", "email", "groups"],
  cookies: { keys: ["for a test alone"] },
  findAccount(_, id) {
    const known = JSON.parse(readFileSync(ACCOUNTS, "utf8"))[id]
    return known && { accountId: id, claims: () => ({ sub: id, ...known }) }
  },
})
const [host, port] = ADDRESS.split(":")
provider.listen(Number(port), host, () => console.log("listening"))
