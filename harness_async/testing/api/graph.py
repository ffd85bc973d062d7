"""The stage graphs of pipeline executions, generated when a row is sent. They are most of its bytes."""

from __future__ import annotations

from harness_async.testing.responses import Json

_STAGES = ("build", "scan", "deploy_dev", "deploy_staging", "approve", "deploy_prod", "verify", "notify")
_NODE_TYPES = {"ci": "CI", "cd": "Deployment", "iacm": "IACM"}


def layout(execution: Json) -> tuple[str, Json]:
    """Return the id of the first stage and the map of all stages of an execution."""
    count = max(1, execution["totalStagesCount"])
    ids = [_node_id(execution, index) for index in range(count)]
    return ids[0], {ids[index]: _stage(execution, ids, index) for index in range(count)}


def execution_graph(execution: Json) -> Json:
    """Return the graph of the steps of an execution."""
    root = _node_id(execution, 0)
    return {
        "rootNodeId": root,
        "nodeMap": {
            root: {
                "uuid": root,
                "setupId": root,
                "name": "Pipeline",
                "identifier": "pipeline",
                "stepType": "PIPELINE_SECTION",
                "status": execution["status"],
                "startTs": execution["startTs"],
            }
        },
        "nodeAdjacencyListMap": {root: {"children": [], "nextIds": []}},
        "executionMetadata": {
            "accountId": None,
            "planExecutionId": execution["planExecutionId"],
            "orgIdentifier": execution["orgIdentifier"],
            "projectIdentifier": execution["projectIdentifier"],
            "pipelineIdentifier": execution["pipelineIdentifier"],
        },
    }


def _node_id(execution: Json, index: int) -> str:
    return f"{execution['planExecutionId'][:20]}{index:02d}"


def _stage(execution: Json, ids: list[str], index: int) -> Json:
    """Return the node of a stage. The last one has the status of the execution, those before it succeeded."""
    last = index == len(ids) - 1
    module = execution["modules"][0] if execution["modules"] else "pms"
    name = _STAGES[index % len(_STAGES)]
    start = execution["startTs"] + 10_000 * index
    node: Json = {
        "nodeType": _NODE_TYPES.get(module, "Custom"),
        "nodeGroup": "STAGE",
        "nodeIdentifier": name,
        "name": name.replace("_", " ").capitalize(),
        "nodeUuid": ids[index],
        "status": execution["status"] if last else "Success",
        "module": module,
        "moduleInfo": {
            module: {
                "__recast": f"io.harness.{module}.pipeline.executions.beans.{module.upper()}StageModuleInfo",
                "serviceInfo": {
                    "identifier": "checkout",
                    "displayName": "Checkout",
                    "deploymentType": "Kubernetes",
                    "gitOpsEnabled": False,
                    "artifacts": {"sidecars": [], "primary": {"sourceType": "DockerRegistry", "tag": "1.42.0"}},
                },
                "infraExecutionSummary": {
                    "identifier": "prod",
                    "name": "Prod",
                    "type": "Production",
                    "infrastructureIdentifier": "cluster_1",
                    "infrastructureName": "Cluster 1",
                },
            }
        },
        "startTs": start,
        "edgeLayoutList": {"currentNodeChildren": [], "nextIds": [] if last else [ids[index + 1]]},
        "nodeRunInfo": {
            "whenCondition": "<+OnPipelineSuccess>",
            "evaluatedCondition": True,
            "expressions": [
                {"expression": "OnPipelineSuccess", "expressionValue": "true", "count": 1},
            ],
        },
        "failureInfo": {"message": ""},
        "failureInfoDTO": {"message": "", "failureTypeList": [], "responseMessages": []},
        "nodeExecutionId": ids[index],
        "executionInputConfigured": False,
        "isRollbackStageNode": False,
        "strategyMetadata": None,
    }
    if not last:
        node["endTs"] = start + 9_000
    elif "endTs" in execution:
        node["endTs"] = execution["endTs"]
    return node
