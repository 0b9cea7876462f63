"""What is particular to EC2: what a launch asks for, who may connect, and what only EC2 says."""

from __future__ import annotations

import base64
import gzip
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeq.core.machines import Volume
from kubeq.core.model import Node, NodeName, NodeState
from kubeq.errors import BackendError, NotFound, UsageError
from kubeq.nodes.base import Launched, Refused
from kubeq.nodes.ec2 import Ec2Provider, Ec2Settings
from kubeq.nodes.ec2_calls import Ec2Calls
from kubeq.nodes.ec2_launch import LONGEST_TEXT, packed, token_of
from kubeq.nodes.ssh_keys import pool_key
from tests.contract.machine_clouds import POOL, Ec2Rig, names, request
from tests.stand_ins.ec2 import REGION, Ec2Cloud

NAME = NodeName(f"{POOL}-1")


@pytest.fixture
def rig(ec2_account: Ec2Cloud, tmp_path: Path) -> Ec2Rig:
    return Ec2Rig(ec2_account, tmp_path)


def node(name: NodeName = NAME) -> Node:
    return Node(
        name=name, pool=POOL, number=1, provider="ec2", state=NodeState.ACTIVE, host="ip-172-31-0-9", requested_at=1.0
    )


def sent(rig: Ec2Rig) -> Mapping[str, str]:
    (one,) = rig.cloud.launches()
    return one


def rules(rig: Ec2Rig, protocol: str = "tcp") -> list[tuple[int, str]]:
    """What is open in the pool's group: port and to whom ("pool": to its members)."""
    found = Ec2Calls(region=REGION).ec2.describe_security_groups(GroupNames=[f"kubeq-{POOL}"])["SecurityGroups"]
    return sorted(
        (rule["FromPort"], whom)
        for rule in found[0]["IpPermissions"]
        if rule["IpProtocol"] == protocol
        for whom in (
            *(["pool"] if any(pair["GroupId"] == found[0]["GroupId"] for pair in rule["UserIdGroupPairs"]) else []),
            *(block["CidrIp"] for block in rule["IpRanges"]),
        )
    )


def test_a_machine_is_asked_for_so_that_it_cannot_outlive_its_work_nor_give_itself_away(rig: Ec2Rig) -> None:
    rig.provider().launch(request(rig.machines), names(1))
    asked = sent(rig)
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert asked["MetadataOptions.HttpTokens"] == "required"
    assert asked["MetadataOptions.HttpPutResponseHopLimit"] == "1"
    assert asked["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    assert (asked["MinCount"], asked["MaxCount"], asked["ClientToken"]) == ("1", "1", NAME)
    assert "KeyName" not in asked
    told = base64.b64decode(asked["UserData"])
    text = (gzip.decompress(told) if told.startswith(b"\x1f\x8b") else told).decode()
    assert text.startswith("#!/bin/sh")
    assert NAME in text
    assert "ssh-ed25519 AAAA pool' >>/root/.ssh/authorized_keys" in text


def test_a_private_machine_has_no_address_outside(rig: Ec2Rig) -> None:
    rig.provider().launch(request(replace(rig.machines, private=True)), names(1))
    (instance,) = Ec2Calls(region=REGION).ec2.describe_instances()["Reservations"][0]["Instances"]
    assert "PublicIpAddress" not in instance
    assert sent(rig)["NetworkInterface.1.SecurityGroupId.1"].startswith("sg-")
    (seen,) = rig.provider().observe(POOL).values()
    assert seen.address == instance["PrivateIpAddress"]


def test_all_that_a_launch_makes_is_tagged_as_the_pools(rig: Ec2Rig) -> None:
    spot = replace(rig.machines, spot=True, labels=(("team", "sky"), ("kubeq-pool", "theirs")))
    rig.provider().launch(request(spot), names(1))
    asked = sent(rig)
    kinds = {asked[key]: key.split(".")[1] for key in asked if key.endswith(".ResourceType")}
    assert set(kinds) == {"instance", "volume", "network-interface", "spot-instances-request"}
    for number in kinds.values():
        tags = {
            asked[key]: asked[key.replace(".Key", ".Value")]
            for key in asked
            if key.startswith(f"TagSpecification.{number}.Tag.") and key.endswith(".Key")
        }
        assert (tags["team"], tags["kubeq-pool"], tags["kubeq-owner"]) == ("sky", POOL, "ada")
        assert tags["kubeq-node"] == NAME
        assert tags["kubeq-release"]
    group = Ec2Calls(region=REGION).ec2.describe_security_groups(GroupNames=[f"kubeq-{POOL}"])["SecurityGroups"][0]
    assert {"kubeq-pool", "team"} <= {tag["Key"] for tag in group["Tags"]}


def test_what_is_tried_before_a_launch_has_the_tags_that_one_has_to_be_allowed_too(rig: Ec2Rig) -> None:
    tried: list[Any] = []
    calls = Ec2Calls(region=REGION)
    calls.ec2.meta.events.register("provide-client-params.ec2.RunInstances", lambda params, **_: tried.append(params))
    Ec2Provider(Ec2Settings(region=REGION, state_dir=rig.folder, price=lambda *_: 0.1), calls).offers(rig.machines)
    (asked,) = tried
    assert asked["DryRun"]
    assert {each["ResourceType"] for each in asked["TagSpecifications"]} == {"instance", "volume", "network-interface"}
    assert {"Key": "team", "Value": "sky"} in asked["TagSpecifications"][0]["Tags"]


def test_a_spot_machine_is_ended_and_not_kept_when_it_is_taken_back(rig: Ec2Rig) -> None:
    rig.provider().launch(request(replace(rig.machines, spot=True)), names(1))
    asked = sent(rig)
    assert asked["InstanceMarketOptions.MarketType"] == "spot"
    assert asked["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
    assert asked["InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"] == "terminate"


def test_where_a_type_costs_more_on_the_spot_market_than_on_demand_the_next_one_is_made(rig: Ec2Rig) -> None:
    rig.cloud.faults(spot_price={"m7i.large": 0.2})
    (answer,) = rig.provider().launch(request(replace(rig.machines, spot=True)), names(1)).values()
    assert isinstance(answer, Launched)
    assert answer.machine is not None
    assert (answer.machine.type, answer.machine.spot) == ("c7i.xlarge", True)


def test_a_launch_right_after_the_offers_asks_for_nothing_twice(rig: Ec2Rig) -> None:
    provider = rig.provider()
    provider.offers(rig.machines)
    before = rig.cloud.calls()
    provider.launch(request(rig.machines), names(1, 2))
    asked = {
        name: count - before.get(name, 0) for name, count in rig.cloud.calls().items() if count > before.get(name, 0)
    }
    assert asked == {"DescribeInstances": 1, "CreateSecurityGroup": 1, "RunInstances": 2}


def test_disks_are_as_big_as_is_asked_and_go_with_the_machine(rig: Ec2Rig) -> None:
    volumes = (Volume(path="/scratch", size=100 * 10**9), Volume(path="/fast", size=2**30, kind="io2"))
    told = replace(rig.machines, disk=50 * 2**30, disk_kind="gp2", volumes=volumes)
    rig.provider().launch(request(told), names(1))
    asked = sent(rig)
    disks = [
        tuple(
            asked[f"BlockDeviceMapping.{number}.{key}"]
            for key in ("DeviceName", "Ebs.VolumeSize", "Ebs.VolumeType", "Ebs.DeleteOnTermination")
        )
        for number in (1, 2, 3)
    ]
    assert disks == [
        ("/dev/sda1", "50", "gp2", "true"),
        ("/dev/sdf", "94", "gp3", "true"),
        ("/dev/sdg", "1", "io2", "true"),
    ]


def test_a_machine_acts_as_the_profile_that_is_named_and_is_in_the_users_groups_too(rig: Ec2Rig) -> None:
    calls = Ec2Calls(region=REGION)
    calls.iam.create_instance_profile(InstanceProfileName="empty")
    with pytest.raises(UsageError, match="the instance profile empty holds no role"):
        rig.provider().offers(replace(rig.machines, identity="empty"))
    calls.iam.create_role(RoleName="worker", AssumeRolePolicyDocument="{}")
    calls.iam.add_role_to_instance_profile(InstanceProfileName="empty", RoleName="worker")
    vpc = calls.ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = calls.ec2.create_security_group(GroupName="ours", Description="ours", VpcId=vpc)["GroupId"]
    rig.provider().launch(request(replace(rig.machines, identity="empty", tags=("ours",))), names(1))
    asked = sent(rig)
    assert asked["IamInstanceProfile.Name"] == "empty"
    assert group in (asked["SecurityGroupId.1"], asked["SecurityGroupId.2"])


def test_a_profile_that_ec2_has_not_heard_of_yet_is_waited_for(rig: Ec2Rig) -> None:
    said = "Value (kubeq) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
    rig.cloud.faults(refuse={"RunInstances": ["InvalidParameterValue", said, 2]})
    (answer,) = rig.provider().launch(request(rig.machines), names(1)).values()
    assert isinstance(answer, Launched)


def test_ports_are_open_among_the_pools_machines_only(rig: Ec2Rig) -> None:
    for _ in range(2):
        rig.provider().launch(request(replace(rig.machines, ports=(7000, 9000))), names(1))
        assert rules(rig) == rules(rig, "udp") == [(7000, "pool"), (9000, "pool")]


def test_port_22_is_opened_to_whoever_connects_and_to_where_one_was_before_no_more(rig: Ec2Rig) -> None:
    rig.provider().launch(request(rig.machines), names(1))
    assert rules(rig) == [], "nothing is open before somebody connects"
    with pytest.raises(NotFound, match="the key of pool pool-ab12cd is not on this machine"):
        rig.provider().command(node(), [], terminal=True)
    pool_key(rig.folder, POOL)
    home, cafe = "192.0.2.7", "198.51.100.9"
    asked: list[tuple[str, bool]] = []

    def at(address: str) -> Mapping[str, object]:
        return {"address_seen_by": lambda machine, private: (asked.append((machine, private)), address)[1]}

    line = rig.provider(**at(home)).command(node(), ["echo", "it's me"], terminal=False)
    assert rules(rig) == [(22, f"{home}/32")]
    rig.provider(caller="o'hara", **at(cafe)).command(node(), [], terminal=True)
    rig.provider(**at(cafe)).command(node(), [], terminal=True)
    rig.provider(**at(cafe)).command(node(), [], terminal=True)
    assert set(rules(rig)) == {(22, f"{cafe}/32")}
    machine = asked[0][0]
    assert line[:2] == ["ssh", "-T"]
    assert line[-3:] == ["--", machine, shlex.join(["/bin/sh", "-c", shlex.join(["echo", "it's me"])])]
    assert str(rig.folder / "pools" / POOL / "key") in line
    assert f"HostKeyAlias={NAME}" in line


def test_through_session_manager_no_port_is_opened(rig: Ec2Rig) -> None:
    rig.provider().launch(request(rig.machines), names(1))
    pool_key(rig.folder, POOL)
    line = rig.provider(through_ssm=True).command(node(), [], terminal=True)
    (proxy,) = (word for word in line if word.startswith("ProxyCommand="))
    (machine,) = rig.cloud.machines("running")
    assert f"start-session --region {REGION} --target {machine['id']}" in proxy
    assert rules(rig) == []


def test_nobody_connects_to_a_machine_that_is_gone(rig: Ec2Rig) -> None:
    with pytest.raises(NotFound, match="EC2 has no machine of pool-ab12cd-1 any more"):
        rig.provider().command(node(), [], terminal=True)


def test_a_group_in_use_and_one_that_was_just_made_stay(rig: Ec2Rig) -> None:
    provider = rig.provider()
    provider.launch(request(rig.machines), names(1))
    provider.forget(POOL, 0.0)
    assert rig.leftovers() == [f"kubeq-{POOL}"]
    provider.terminate([NAME])
    provider.forget(POOL, 3600.0)
    assert rig.leftovers() == [f"kubeq-{POOL}"], "it may be that of a launch that is under way"
    provider.forget(None, 0.0)
    assert rig.leftovers() == [f"kubeq-{POOL}"], "it may be somebody else's"
    provider.forget(POOL, 0.0)
    assert rig.leftovers() == []


def test_an_image_may_be_named_by_a_parameter_of_systems_manager(rig: Ec2Rig) -> None:
    calls = Ec2Calls(region=REGION)
    image = calls.ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"][3]["ImageId"]
    calls.ssm.put_parameter(Name="/team/image", Value=image, Type="String")
    rig.provider().launch(request(replace(rig.machines, image="resolve:ssm:/team/image")), names(1))
    assert sent(rig)["ImageId"] == image
    with pytest.raises(UsageError, match="Systems Manager in eu-west-1 has no parameter /team/none"):
        rig.provider().offers(replace(rig.machines, image="resolve:ssm:/team/none"))


def test_an_image_whose_machines_would_run_nothing_and_never_end_is_refused(rig: Ec2Rig) -> None:
    ec2 = Ec2Calls(region=REGION).ec2
    windows = ec2.describe_images(Filters=[{"Name": "platform", "Values": ["windows"]}])["Images"][0]
    bare = ec2.register_image(Name="bottlerocket-aws-ecs-2-x86_64", Architecture="x86_64")["ImageId"]
    for image, said in (
        (windows["ImageId"], f"the image {windows['Name']} is for Windows"),
        (bare, "the image bottlerocket-aws-ecs-2-x86_64 runs no script at its first boot"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            rig.provider().offers(replace(rig.machines, image=image))


def test_a_quota_of_nothing_is_said_beforehand_and_types_of_another_kind_are_still_offered(rig: Ec2Rig) -> None:
    rig.cloud.faults(quotas={"L-1216C47A": 0.0, "L-34B43A08": 2.0})
    with pytest.raises(UsageError, match=r"Standard .* in eu-west-1 is 0 processors .*, and m7i.large has 2"):
        rig.provider().offers(rig.machines)
    spot = rig.provider().offers(replace(rig.machines, spot=True))
    assert {offer.type.name for offer in spot} == {"m7i.large"}, "c7i.xlarge has four"
    mixed = rig.provider().offers(replace(rig.machines, types=("m7i.large", "g4dn.xlarge")))
    assert {offer.type.name for offer in mixed} == {"g4dn.xlarge"}
    rig.cloud.faults(refuse={"GetServiceQuota": ["AccessDeniedException", "no", 0]})
    assert rig.provider().offers(rig.machines)


@pytest.mark.parametrize(
    "wrong", [{"disk_kind": "pd-ssd"}, {"volumes": (Volume(path="/x", size=2**30, kind="pd-ssd"),)}]
)
def test_a_type_of_disk_that_ec2_does_not_have_is_refused(rig: Ec2Rig, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="EC2 has no disks of the type 'pd-ssd'"):
        rig.provider().offers(replace(rig.machines, **wrong))


def test_a_region_that_is_none_or_not_the_providers_is_refused(rig: Ec2Rig) -> None:
    for region, said in (("eu-west-99", "AWS has no region eu-west-99"), ("europe", "'europe' is not the name of")):
        with pytest.raises(UsageError, match=said):
            rig.provider(region=region).offers(replace(rig.machines, region=region))
    with pytest.raises(UsageError, match="are to be in us-east-1, and this is eu-west-1"):
        rig.provider().offers(replace(rig.machines, region="us-east-1"))


def test_a_machine_that_is_protected_is_said_to_stand_and_the_others_are_ended(rig: Ec2Rig) -> None:
    rig.provider().launch(request(rig.machines), names(1, 2, 3))
    kept = next(one for one in rig.cloud.machines() if one["tags"]["kubeq-node"].endswith("-2"))
    ec2 = Ec2Calls(region=REGION).ec2
    ec2.modify_instance_attribute(InstanceId=kept["id"], DisableApiTermination={"Value": True})
    with pytest.raises(BackendError, match=f"the machine {kept['id']} of {POOL}-2 cannot be ended"):
        rig.provider().terminate(list(names(1, 2, 3)))
    assert rig.cloud.standing() == [f"{POOL}-2"]


def test_a_node_whose_launch_was_asked_for_in_other_words_before_has_that_machine(rig: Ec2Rig) -> None:
    rig.provider().launch(request(rig.machines), names(1))
    (first,) = rig.cloud.machines()
    rig.cloud.faults(hidden_s=1.5)  # not in the list before the launch, in it once EC2 has said so
    (answer,) = rig.provider().launch(request(rig.machines, owner="bob"), names(1)).values()
    assert isinstance(answer, Launched)
    assert answer.machine is not None
    assert answer.machine.id == first["id"]


def test_a_machine_that_was_just_made_here_is_ended_though_no_list_shows_it(rig: Ec2Rig) -> None:
    rig.hide_new(3600)
    provider = rig.provider()
    provider.launch(request(rig.machines), names(1, 2))
    rig.cloud.faults(refuse={"TerminateInstances": ["InvalidInstanceID.NotFound", "It does not exist", 4]})
    provider.terminate(list(names(1, 2)))
    assert rig.cloud.standing() == []
    provider.terminate(list(names(1, 2)))


def test_a_long_boot_text_is_compressed_and_one_that_is_too_long_is_refused(rig: Ec2Rig) -> None:
    plain = "#!/bin/sh\n" + "echo the same again and again\n" * 2000
    assert len(packed(plain)) < LONGEST_TEXT < len(plain)
    assert gzip.decompress(packed(plain)).decode() == plain
    assert packed("#!/bin/sh\n") == b"#!/bin/sh\n"
    noise = {"KUBEQ_NOISE": base64.b85encode(bytes(range(256)) * 2).decode() + "".join(map(chr, range(0x4E00, 0x9FFF)))}
    (answer,) = rig.provider().launch(request(rig.machines, environ=noise), names(1)).values()
    assert isinstance(answer, Refused)
    assert "the machine's boot text is too long for EC2" in answer.reason


def test_tokens_are_no_longer_than_ec2_takes_and_differ_by_node_and_try() -> None:
    long = NodeName("n" * 64)
    tokens = [token_of(NAME, 0), token_of(NAME, 1), token_of(long, 0), token_of(long, 1)]
    assert tokens[0] == NAME
    assert len({*tokens}) == len(tokens)
    assert max(map(len, tokens)) <= 64


def test_the_console_of_a_machine_can_be_read_while_ec2_keeps_it(rig: Ec2Rig) -> None:
    rig.provider().launch(request(rig.machines), names(1))
    assert rig.provider().console(NAME) is None, "it has printed nothing"
    rig.cloud.faults(refuse={"GetConsoleOutput": ["InvalidInstanceID.NotFound", "gone", 0]})
    assert rig.provider().console(NAME) is None
