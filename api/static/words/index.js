// All words of the page: a dictionary a part of it, so that each stays small.

import { words as boards } from "/static/words/boards.js";
import { words as compare } from "/static/words/compare.js";
import { words as jobs } from "/static/words/jobs.js";
import { words as scorers } from "/static/words/scorers.js";
import { words as service } from "/static/words/service.js";
import { words as submit } from "/static/words/submit.js";
import { words as common } from "/static/words/words.js";

export { LANGUAGES } from "/static/words/words.js";

export const words = { ...common, ...boards, ...compare, ...jobs, ...scorers, ...service, ...submit };
