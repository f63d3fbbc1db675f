// Words of score jobs; as words.js has them.

export const words = {
  "job.weighted": ["Weighted score", "加权得分"],
  "job.coverage": ["Made of {share} of the weights: the other metrics have no score.", "由 {share} 的权重得出：其余指标没有得分。"],
  "job.question": ["Question", "问题"],
  "job.answer": ["Answer", "回答"],
  "job.judge": ["Judge", "评判模型"],
  "job.why": ["Why: {metric}", "理由：{metric}"],
  "job.judged": ["judged", "评判对象"],
  "job.verdict": ["holds", "成立"],
  "job.reason": ["reason", "理由"],
};
