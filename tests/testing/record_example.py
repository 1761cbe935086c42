"""Records the example of a recorded test anew: `python -m tests.testing.record_example`, from the root of the checkout.

Against the local endpoint, behind which rules stand in for a model: no response comes from AWS.
"""

import subprocess
import sys
from pathlib import Path

from tests.cli.command import bare_environment
from tests.support.bedrock_endpoint import BedrockEndpoint, ConverseRequest, Message, Reply
from tests.support.model import tool_use
from tests.testing.user_suite import KEYS

EXAMPLE = Path(__file__).parents[2] / "examples" / "recorded_test"
NUMBERS = ("RB102", "RB207")


def clerk(request: ConverseRequest) -> Reply:
    """Answer as a model would that was told to look parcels up first."""
    block = request.messages[-1]["content"][-1]
    if "toolResult" in block:
        return Message([{"text": f"Your parcel is {block['toolResult']['content'][0]['text']}."}])
    number = next(number for number in NUMBERS if number in block["text"])
    return Message([{"text": "I will look it up."}, tool_use(f"tooluse_{number}", "track", {"number": number})])


def main() -> None:
    """Run the test of the example by pytest, with its calls going to the local endpoint."""
    with BedrockEndpoint(clerk) as endpoint:
        subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--bedrock-record=all"],
            cwd=EXAMPLE,
            env=bare_environment(Path.home(), **KEYS, AWS_ENDPOINT_URL_BEDROCK_RUNTIME=endpoint.url),
            check=True,
        )


if __name__ == "__main__":
    main()
