// What every view says of a task: its name, how it ended, whether it goes on.

import { signal } from "/static/preact.js";
import { t } from "/static/core/language.js";

/** The address of the task that somebody has just submitted what was there already of; empty for none. */
export const wasThere = signal("");

export const isActive = (task) => ["queued", "running", "cancelling"].includes(task.state);

/** What a task works on, in words. */
export function nameOf(task) {
  if (task.workspace) return task.workspace;
  if (task.question) return task.question;
  const all = task.workspaces || [];
  return all.length > 2 ? t("list.more", { first: all[0], n: all.length - 1 }) : all.join(", ") || t("list.batch");
}

/** How it ended: a Result below its threshold is completed, and no success. */
export function ended(task) {
  if (task.state !== "completed") return task.state;
  const passed = task.outcome?.pass ?? task.result?.summary?.pass;
  return passed === true ? "passed" : passed === false ? "unpassed" : "completed";
}
