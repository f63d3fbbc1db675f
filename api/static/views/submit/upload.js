// Uploading a workspace: an archive as it is, or a folder, which the page packs.

import { html, useState } from "/static/preact.js";
import { bytes, t } from "/static/core/language.js";
import { tarOf } from "/static/core/tar.js";
import { Text } from "/static/parts/form-fields.js";
import { Sending, useSending } from "/static/parts/sending.js";

const ARCHIVES = ".zip,.tar,.tgz,.gz,.bz2,.xz";

/** What is to be sent: [Blob, its file name, what the workspace is called where nobody says]. */
function packed(from, files) {
  if (from === "archive") return [files[0], files[0].name];
  const entries = files.map((file) => [file.webkitRelativePath || file.name, file]);
  return [tarOf(entries), `${entries[0][0].split("/")[0]}.tar`];
}

/** `from` is archive or folder; `onUploaded` takes what the API answers. */
export function WorkspaceUpload({ from, onUploaded }) {
  const [files, setFiles] = useState([]);
  const [name, setName] = useState("");
  const [isMissing, setMissing] = useState(false);
  const sending = useSending();
  const isFolder = from === "folder";
  const submit = (event) => {
    event.preventDefault();
    setMissing(!files.length);
    if (!files.length) return;
    const form = new FormData();
    // Fields first: the API knows the name before the file has come.
    if (name.trim()) form.append("name", name.trim());
    form.append("file", ...packed(from, files));
    sending.start("/workspaces", form, onUploaded);
  };
  const size = files.reduce((sum, file) => sum + file.size, 0);
  return html`<form id="upload" onSubmit=${submit} aria-label=${t("upload.title")}>
    <div class="field"><label for="file">${t(isFolder ? "upload.folder" : "upload.archive")}</label>
      <input key=${from} id="file" type="file" accept=${isFolder ? null : ARCHIVES} webkitdirectory=${isFolder} disabled=${sending.isUnderWay}
        aria-describedby="file-hint" onChange=${(event) => { setFiles([...event.target.files]); setMissing(false); }} />
      <span id="file-hint" class="hint">${t(isFolder ? "upload.folder.hint" : "upload.archive.hint")}</span>
      ${files.length > 0 && html`<span class="hint" role="status">${t("upload.chosen", { n: files.length, size: bytes(size) })}</span>`}
      ${isMissing && html`<span class="wrong" role="alert">${t("upload.missing")}</span>`}</div>
    <div class="fields"><${Text} id="name" label=${t("upload.name")} value=${name} maxlength="100"
      disabled=${sending.isUnderWay} hint=${t("upload.name.hint")} onInput=${setName} /></div>
    <p class="buttons"><button type="submit" id="send" disabled=${sending.isUnderWay}>${t("upload.go")}</button></p>
    <${Sending} of=${sending} />
  </form>`;
}
