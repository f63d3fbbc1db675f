"""The Chinese words of reports and plots, by the English ones."""

from __future__ import annotations

__all__ = ["WORDS"]

_PAGE = {
    "AutoScorer report": "AutoScorer 报告",
    "Language": "语言",
    "(empty)": "（空）",
    "(blank)": "（空白）",
    "Task": "任务类型",
    "Scorer": "评分器",
    "Scored": "评分时间",
    "undefined": "无定义",
    "Higher is better": "越高越好",
    "Lower is better": "越低越好",
    "✓ Pass": "✓ 通过",
    "✗ Fail": "✗ 未通过",
    "Rank {rank}": "等级 {rank}",
    "{level} interval {low} to {high}": "{level} 置信区间 {low} 至 {high}",
    "To pass: at least {goal}": "通过条件：不低于 {goal}",
    "To pass: at most {goal}": "通过条件：不高于 {goal}",
    "{score} on a scale from {low} to {high}": "{score}，量程为 {low} 至 {high}",
    "; interval {low} to {high}": "；置信区间 {low} 至 {high}",
    "; {goal} needed to pass": "；通过需要 {goal}",
    "{method}, {count} resamples": "{method}，重抽样 {count} 次",
    "No score": "没有得分",
    "{count} problems:": "{count} 个问题：",
    "Stage": "阶段",
    "Cause": "责任方",
    "The submission": "提交的内容",
    "How it was asked for": "请求的方式",
    "The system, not the submission": "系统，而非提交的内容",
    "Last lines of the log": "日志的最后几行",
    "Log": "日志",
    "Notes": "说明",
    "{count} more in result.json.": "result.json 中还有 {count} 条。",
    "Metrics": "指标",
    "Metric": "指标",
    "Value": "值",
    "{level} interval": "{level} 置信区间",
    "Interval": "置信区间",
    "Method": "方法",
    "main": "主要",
    "{low} to {high}": "{low} 至 {high}",
    "The first {count} of {total}; the rest is in result.json.": "{total} 个中的前 {count} 个；其余见 result.json。",
    "Class": "类别",
    "Metrics by class": "各类别的指标",
    "By class": "按类别",
    "{count} class: {names}": "{count} 个类别：{names}",
    "{count} classes: {names}": "{count} 个类别：{names}",
    "Timing": "用时",
    "Validate": "校验",
    "Queue": "排队",
    "Pull": "拉取镜像",
    "Run": "运行",
    "Load": "读取",
    "Compute": "计算",
    "Save": "保存",
    "Other": "其他",
    "Total": "总计",
    "Resources": "资源",
    "Backend": "后端",
    "Exit code": "退出码",
    "Peak memory": "内存峰值",
    "CPU time": "CPU 时间",
    "Output": "输出",
    "{size} in {count} file": "{size}，{count} 个文件",
    "{size} in {count} files": "{size}，{count} 个文件",
    "Provenance": "来源",
    "Scored at": "评分时间",
    "Host": "主机",
    "Image": "镜像",
    "Image digest": "镜像摘要",
    "Scorer source, sha256": "评分器源码，sha256",
    "Ground truth, sha256": "标准答案，sha256",
    "Predictions, sha256": "预测，sha256",
    "Input, sha256": "输入，sha256",
    "Params": "参数",
    "Plots": "图",
    "Errors": "错误",
    "The first {count} rows of errors.csv.": "errors.csv 的前 {count} 行。",
    "The first row of errors.csv.": "errors.csv 的第一行。",
    "{count} rows, from errors.csv.": "共 {count} 行，来自 errors.csv。",
    "1 row, from errors.csv.": "共 1 行，来自 errors.csv。",
    "All of them": "查看全部",
    "Artifacts": "文件",
    "Name": "名称",
    "File": "文件名",
    "Size": "大小",
    "Rounded for reading; {link} holds every number in full.": "数字已为便于阅读而取整；完整的数字见 {link}。",
    "Rounded for reading. This is the report for those who may not see the ground truth.":
        "数字已为便于阅读而取整。这是供无权查看标准答案者阅读的报告。",
    "validation": "校验",
    "execution": "运行",
    "scoring": "评分",
    "api": "接口",
    "config": "配置",
    "< 1 ms": "< 1 毫秒",
    "{count} ms": "{count} 毫秒",
    "{count} s": "{count} 秒",
    "{minutes} min {seconds} s": "{minutes} 分 {seconds} 秒",
    "{hours} h {minutes} min": "{hours} 小时 {minutes} 分",
}  # fmt: skip

# What the catalogue of errors says of each code.
_ERRORS = {
    "the workspace folder does not exist": "工作区目录不存在",
    "meta.json is missing, malformed or asks for too much": "meta.json 缺失、格式错误或请求超出上限",
    "no scorer of that id is registered": "没有注册该 id 的评分器",
    "a file that must be there is not": "缺少必需的文件",
    "the operator does not allow this image": "运维者不允许使用该镜像",
    "the model could read the ground truth": "模型可能读到标准答案",
    "the image exists nowhere it may come from": "在允许的来源中找不到该镜像",
    "the registry could not deliver the image": "镜像仓库未能提供该镜像",
    "the workspace's Dockerfile does not build": "工作区的 Dockerfile 构建失败",
    "the model exited with an error": "模型出错退出",
    "the model ran past its deadline and was killed": "模型超过时限，已被终止",
    "the model, or scoring its output, took more than allowed": "模型用量超限，或对其输出评分时用量超限",
    "the output holds something that is not a plain file": "输出中有不是普通文件的内容",
    "nothing here can run a container": "这里没有可以运行容器的后端",
    "the disk of the home or of the workspaces has no room": "主目录或工作区所在的磁盘没有空间",
    "the run was cancelled": "运行被取消",
    "a file's content breaks its format": "文件内容不符合格式",
    "a value can't be read as what it must be": "某个值无法按要求的类型解读",
    "ground truth and predictions do not cover the same ids": "标准答案与预测的 id 不一致",
    "a scorer parameter is unknown or out of range": "评分器参数未知或超出范围",
    "the scorer itself failed": "评分器自身出错",
    "the scorer's file does not load": "评分器文件无法加载",
    "the judge model could not be asked": "无法询问评判模型",
    "no valid token was given": "没有提供有效的令牌",
    "the token may not do this": "该令牌无权执行此操作",
    "there is no such thing": "没有这个对象",
    "the request or command line is malformed": "请求或命令行有误",
    "another run holds this workspace": "另一个运行正占用该工作区",
    "the request is larger than allowed": "请求超过允许的大小",
    "too many requests": "请求过于频繁",
    "a fault of AutoScorer itself": "AutoScorer 自身的故障",
    "What is wrong is told with the task; this report leaves it out, as it may quote the ground truth.":
        "具体原因在任务的错误信息中说明；由于可能引用标准答案，本报告不予列出。",
}  # fmt: skip

_PLOTS = {
    "Confusion matrix": "混淆矩阵",
    "True class": "真实类别",
    "Predicted class": "预测类别",
    "correct": "正确",
    "mistaken": "错误",
    "(all others)": "（其他全部）",
    "{rows} row, {n} class.": "{rows} 行，{n} 个类别。",
    "{rows} rows, {n} class.": "{rows} 行，{n} 个类别。",
    "{rows} row, {n} classes.": "{rows} 行，{n} 个类别。",
    "{rows} rows, {n} classes.": "{rows} 行，{n} 个类别。",
    "Colour: share of the true class.": "颜色：占真实类别的比例。",
    "The {most} most confused of {n} classes;": "{n} 个类别中混淆最多的 {most} 个；",
    "{rows} row in all.": "总计 {rows} 行。",
    "{rows} rows in all.": "总计 {rows} 行。",
    "{share} % of all mistakes are between them.": "{share} % 的错误发生在它们之间。",
    "Shown: {right} correct, {wrong} mistaken.": "图中：正确 {right}，错误 {wrong}。",
    "F1 by class": "各类别的 F1",
    "F1 by class, from counts in steps": "各类别的 F1（按档计数）",
    "AP by category": "各类别的 AP",
    "The {most} lowest of {n} classes.": "{n} 个类别中最低的 {most} 个。",
    "{n} undefined.": "{n} 个无定义。",
    "not shown: too few rows": "不显示：行数太少",
    "{n} not shown: too few rows.": "{n} 个不显示：行数太少。",
    "{n} classes.": "{n} 个类别。",
    "Shown: from {low} to {high}.": "图中：{low} 至 {high}。",
    "recall": "召回率",
    "precision": "精确率",
    "Precision over recall at IoU {iou}": "IoU {iou} 时的精确率与召回率",
    "The first {shown} of {n} curves.": "{n} 条曲线中的前 {shown} 条。",
    "{name} (no data)": "{name}（无数据）",
    "mean of {n} categories": "{n} 个类别的平均",
    "No curve is defined.": "没有已定义的曲线。",
    "Precision over recall for {names}.": "{names} 的精确率与召回率。",
    "no curve": "没有曲线",
    "Without data: {names}.": "无数据：{names}。",
    "Predictions and residuals": "预测与残差",
    "true value": "真实值",
    "predicted value": "预测值",
    "true − predicted": "真实值 − 预测值",
    "{n} rows.": "{n} 行。",
    "{n} rows, counted in small cells.": "{n} 行，按小格计数。",
    "{n} rows;": "{n} 行；",
    "{n} rows, counted in small cells;": "{n} 行，按小格计数；",
    "{n} too large or not finite left out.": "{n} 行过大或不是有限数，已略去。",
    "rows in a cell (logarithmic)": "每格行数（对数）",
    "Left:": "左：",
    "predicted against true values, dashed where they are equal.": "预测值与真实值，虚线处相等。",
    "Right:": "右：",
    "true minus predicted, against the predicted value;": "真实值减预测值，按预测值排列；",
    "root mean square {rms}, largest {far}.": "均方根 {rms}，最大 {far}。",
    "true against predicted values, dashed where they are equal.": "真实值与预测值，虚线处相等。",
    "true minus predicted, against the predicted value.": "真实值减预测值，按预测值排列。",
    "There are too few rows for a plot:": "行数太少，无法作图：",
    "no cell of it holds {n} that may be shown.": "没有任何一格有可以显示的 {n} 行。",
    "Counted in cells.": "按格计数。",
    "Rows far out are not drawn.": "离群的行不画出。",
    "Counted in cells, in steps of {n}.": "按格计数，每 {n} 行一档。",
    "Cells of fewer rows and rows far out are not drawn.": "行数更少的格和离群的行不画出。",
}

# What built-in scorers and the run itself note in a Result.
_NOTES = {
    "{n} label never predicted: its precision is 0/0 and counts as 0 ({names}).":
        "{n} 个标签从未被预测：其精确率为 0/0，按 0 计（{names}）。",
    "{n} labels never predicted: their precision is 0/0 and counts as 0 ({names}).":
        "{n} 个标签从未被预测：其精确率为 0/0，按 0 计（{names}）。",
    "{n} label predicted but not in the ground truth: its recall is 0/0 and counts as 0 ({names}).":
        "{n} 个标签被预测，但标准答案中没有：其召回率为 0/0，按 0 计（{names}）。",
    "{n} labels predicted but not in the ground truth: their recall is 0/0 and counts as 0 ({names}).":
        "{n} 个标签被预测，但标准答案中没有：其召回率为 0/0，按 0 计（{names}）。",
    "The empty text is a label like any other: {a} times in the ground truth, {b} times predicted.":
        "空文本与其他标签一样：在标准答案中出现 {a} 次，被预测 {b} 次。",
    "{name} is undefined: only one label occurs in the ground truth and the predictions.":
        "{name} 无定义：标准答案和预测中只出现一个标签。",
    "matthews_corrcoef is 0/0 with a single label; taken as 0, as scikit-learn does.":
        "只有一个标签时 matthews_corrcoef 为 0/0；与 scikit-learn 一样按 0 计。",
    "{n} classes: the metrics of each are in per_class.csv.": "{n} 个类别：各类别的指标见 per_class.csv。",
    "Labels that the ground truth does not have stand together.": "标准答案中没有的标签合并在一起。",
    "Counts are shown in steps of {k} and from {k2} rows on, metrics of a label from about {n} rows on; all other "
    "labels stand together.":
        "计数从 {k2} 行起按每 {k} 行一档显示，标签的指标约从 {n} 行起显示；其他所有标签合并在一起。",
    "The threshold {t} changes nothing: the predictions are labels, not probabilities.":
        "阈值 {t} 不起作用：预测是标签，而不是概率。",
    "The predictions are probabilities of {label}: from {t} on they count as that label, below as {other}.":
        "预测是 {label} 的概率：不低于 {t} 的计为该标签，低于的计为 {other}。",
    "The predictions are probabilities: from {t} on they count as the positive label.":
        "预测是概率：不低于 {t} 的计为正类标签。",
    "No interval for {name}: it does not vary between the rows.": "{name} 没有置信区间：它在各行之间没有变化。",
    "An error is beyond what float64 holds (1.8e308), so no metric is defined.":
        "有误差超出 float64 的范围（1.8e308），因此所有指标均无定义。",
    "All errors are of the same size: the sample says nothing of their spread, so no intervals.":
        "所有误差大小相同：样本无法说明其离散程度，因此没有置信区间。",
    "One row has no intervals.": "只有一行，没有置信区间。",
    "{name} is beyond what float64 holds (1.8e308).": "{name} 超出 float64 的范围（1.8e308）。",
    "{a} of {b} true values are 0: mape divides by 2.2e-16 there, as scikit-learn does, and says little.":
        "{b} 个真实值中有 {a} 个为 0：与 scikit-learn 一样，mape 在这些行除以 2.2e-16，参考意义不大。",
    "r2 and explained_variance are undefined: there is only one row.": "r2 和 explained_variance 无定义：只有一行。",
    "r2 and explained_variance are undefined: the ground truth is constant.":
        "r2 和 explained_variance 无定义：标准答案是常数。",
    "r2 and explained_variance are undefined: the ground truth varies too little beside the errors.":
        "r2 和 explained_variance 无定义：与误差相比，标准答案的变化太小。",
    "The ground truth holds no box, so every number is undefined.": "标准答案中没有框，因此所有数字均无定义。",
    "The predictions hold no detection, so every defined number is 0.": "预测中没有检测结果，因此有定义的数字均为 0。",
    "{n} ground-truth boxes have no area; width × height is used.": "标准答案中有 {n} 个框没有面积；以宽 × 高代替。",
    "{n} images with detections are not in the ground truth; they count as images without boxes.":
        "{n} 张有检测结果的图像不在标准答案中；按没有框的图像计。",
    "{n} detections are of {k} categories that the ground truth does not have, and are left out, as in the reference: "
    "{names}.": "{n} 个检测结果属于标准答案中没有的 {k} 个类别，与参考实现一样略去：{names}。",
    "{n} detections are over the cap of {cap} for an image and category; those with the lowest scores are left out, "
    "as in the reference.": "{n} 个检测结果超过每图每类 {cap} 个的上限；与参考实现一样略去得分最低的。",
    "{n} detections share their score with another one of their category; on one image the order of the file decides "
    "between them, as in the reference.":
        "{n} 个检测结果与同类别的另一个得分相同；在同一图像上与参考实现一样按文件中的顺序决定。",
    "{name} is undefined: {value} is not among {param}.": "{name} 无定义：{value} 不在 {param} 之中。",
    "{name} is undefined: the ground truth has no box with an area from {low} to {high} that is not a crowd.":
        "{name} 无定义：标准答案中没有面积在 {low} 至 {high} 之间且不是 crowd 的框。",
    "{name} is undefined: the ground truth has no box that counts.": "{name} 无定义：标准答案中没有计入的框。",
    "{name} is undefined: the scorer returned {value}.": "{name} 无定义：评分器返回了 {value}。",
    "There are {n} categories: the AP of each stands in per_class.csv, not here.":
        "共 {n} 个类别：各类别的 AP 见 per_class.csv，此处不列出。",
    "Undefined, for want of a ground-truth box that counts: {names}.": "因标准答案中没有计入的框而无定义：{names}。",
    "No interval for map: {n} images, at least {k} are needed.": "map 没有置信区间：有 {n} 张图像，至少需要 {k} 张。",
    "No interval for map: it does not vary between the images.": "map 没有置信区间：它在各图像之间没有变化。",
    "Numbers of an area range need {a} boxes; AP of a category needs {b}, and is shown in steps of {c}.":
        "面积范围的数字需要 {a} 个框；类别的 AP 需要 {b} 个框，并按每 {c} 个一档显示。",
    "errors.csv holds the first {n} of {all} false positives at IoU {iou}.":
        "errors.csv 只有 IoU {iou} 时 {all} 个误检中的前 {n} 个。",
    "errors.csv holds the first {n} of {all} missed boxes at IoU {iou}.":
        "errors.csv 只有 IoU {iou} 时 {all} 个漏检中的前 {n} 个。",
    "These predictions are not from the last run in this workspace: no image is known.":
        "这些预测不是来自该工作区的最近一次运行：镜像未知。",
    "AutoScorer itself stood still for {n} s while the model ran; they do not count against the model's timeout.":
        "模型运行期间 AutoScorer 自身停顿了 {n} 秒；这段时间不计入模型的时限。",
    "The kernel ended a process of the model for memory; the model itself went on and succeeded.":
        "内核因内存终止了模型的一个进程；模型本身继续运行并成功完成。",
    "The model wrote output/{name}; that name is AutoScorer's, so it was ignored.":
        "模型写入了 output/{name}；该名称归 AutoScorer 使用，因此已忽略。",
    "{n} more notes were left out.": "另有 {n} 条说明已略去。",
    "This is what a token of the role submit is shown: numbers are rounded, and what may tell of single rows of the "
    "ground truth is left out, as the complete report and errors.csv. A token of the role admin sees all of it.":
        "这是 submit 角色的令牌所能看到的内容：数字已取整，可能透露标准答案个别行的内容"
        "（如完整报告和 errors.csv）已略去。admin 角色的令牌可以看到全部。",
}  # fmt: skip

WORDS: dict[str, str] = {**_PAGE, **_ERRORS, **_PLOTS, **_NOTES}
