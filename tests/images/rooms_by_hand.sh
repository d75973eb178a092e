#!/bin/sh
# Every room by its command line, each on what the others wrote: `sh rooms_by_hand.sh FOLDER RECIPE`, RECIPE as `python -m pipelines show` writes it.
set -eu
folder=$1
recipe=$2

room() {
    name=$1
    shift
    echo "== $name"
    python -m "components.$name" --recipe "$recipe" "$@"
}

texts="--items $folder/items --queries $folder/queries"
room preflight --workspace "$folder/workspace" --page "$folder/preflight.md"
room simulate_shop --dataset "$folder/shop"
room import_dataset --dataset "$folder/shop" --card "$folder/card.json" --items "$folder/items" --judgments "$folder/judgments" \
    --judged-queries "$folder/judged_queries"
room extract_logs --card "$folder/card.json" --judged-queries "$folder/judged_queries" --events "$folder/events" \
    --interactions "$folder/interactions" --queries "$folder/queries" --reformulations "$folder/reformulations" --lineage "$folder/lineage.json"
room retrieve_neighbors $texts --interactions "$folder/interactions" --judgments "$folder/judgments" --neighbors "$folder/neighbors" \
    --evidence "$folder/evidence"
room prepare_encoder $texts --encoder "$folder/encoder"
room train_teacher $texts --card "$folder/card.json" --encoder "$folder/encoder" --judgments "$folder/judgments" --neighbors "$folder/neighbors" --model "$folder/teacher"
room build_pool $texts --judgments "$folder/judgments" --interactions "$folder/interactions" --pairs "$folder/pairs"
room score_pairs $texts --system teacher --pairs "$folder/pairs" --neighbors "$folder/neighbors" --model "$folder/teacher" \
    --scores "$folder/soft_targets"
room annotate_pairs $texts --pairs "$folder/pairs" --sub-judgments "$folder/sub_judgments"
room train_student $texts --encoder "$folder/encoder" --pairs "$folder/pairs" --soft-targets "$folder/soft_targets" \
    --judgments "$folder/judgments" --neighbors "$folder/neighbors" --model "$folder/student"
for system in cross_encoder untrained; do
    if [ $system = untrained ]; then model=$folder/encoder; else model=$folder/student; fi
    room score_pairs $texts --system $system --output rankings --pairs "$folder/judgments" --model "$model" --scores "$folder/$system"
done
room sample_judgments $texts --soft-targets "$folder/soft_targets" --sheet "$folder/sheet.csv"
room evaluate_rankings $texts --card "$folder/card.json" --judgments "$folder/judgments" \
    --rankings "$folder/cross_encoder,$folder/untrained" --challenger cross_encoder --evaluation "$folder/evaluation"
room promote_model --evaluation "$folder/evaluation" --model "$folder/student" --system cross_encoder --promotion "$folder/promotion.json"
