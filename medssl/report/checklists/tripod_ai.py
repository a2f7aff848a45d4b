"""TRIPOD+AI (2024): 27 items in 52 parts, numbered as published; their subjects are in our own words."""

from __future__ import annotations

from dataclasses import replace

from medssl.report.checklists import data, discussion, model, performance, scans
from medssl.report.checklists.item import Checklist, Item, item

_DEVELOPMENT = frozenset({"9a", "12a", "12b", "12c", "15", "22", "27a", "27b"})
_EVALUATION = frozenset({"12f", "12g", "20c", "24"})
_ITEMS = (
    item("Title", "1", "What the title says: development or evaluation, for whom, predicting what",
          "Does the title say that a model is developed and evaluated, for which people, and what it predicts?",
          performance.aim, scored=True),
    item("Abstract", "2", "Abstract by the separate TRIPOD+AI list for abstracts",
          "Does the abstract follow the 13 items of TRIPOD+AI for Abstracts?"),
    item("Introduction: Background", "3a", "Clinical context, reason for the model, earlier models",
          "Is the model for diagnosis or prognosis, why is it needed, and which models exist already?"),
    item("Introduction: Background", "3b", "Whom the model is for, where in the care pathway, who uses it",
          "For which people, at which point of care and for which users is the model meant?"),
    item("Introduction: Background", "3c", "Known health inequalities between groups of people",
          "Which health inequalities between groups of people are known in this field?"),
    item("Introduction: Objectives", "4", "What the study is after; development, evaluation or both",
          "What are the objectives of the study?", performance.aim, scored=True),
    item("Methods: Data", "5a", "Where the data come from, why they were used, whom they represent",
          "Were the scans made in a cohort, a trial, a registry or routine care, why were they used, and whom do they "
          "represent?", data.sources),
    item("Methods: Data", "5b", "Dates of recruitment and follow-up",
          "When did recruitment begin and end, and when were the scans made?"),
    item("Methods: Participants", "6a", "Setting; number and place of the centres",
          "In which setting (population, primary care, hospital) were people recruited, and where are the sites?",
          data.settings),
    item("Methods: Participants", "6b", "Who could take part",
          "What were the inclusion and exclusion criteria?"),
    item("Methods: Participants", "6c", "Treatments, and what was done about them",
          "Which treatments did people receive, and does the analysis take account of them?"),
    item("Methods: Data preparation", "7", "Preparation and quality control of the data, alike in all groups or not",
          "What was done to the scans before medssl read them (skull stripping, registration, quality control), and "
          "was it alike in all groups of people?", scans.preparation),
    item("Methods: Outcome", "8a", "What is predicted, how and when it was assessed, and why",
          "How was age recorded (date of birth, own statement, rounded or not), was that alike in all groups, and why "
          "is it a useful outcome?", performance.outcome, scored=True),
    item("Methods: Outcome", "8b", "Who judged the outcome, where it needs judgement",
          "Who judged the outcome, and with which qualification?", performance.no_assessor),
    item("Methods: Outcome", "8c", "Blinding of the outcome's assessment",
          "Was the outcome recorded without knowledge of the scans?"),
    item("Methods: Predictors", "9a", "How predictors were chosen",
          "Why were scans of this kind (sequence, modality) chosen as input?", model.predictors),
    item("Methods: Predictors", "9b", "Definition of the predictors, how and when measured, blinding",
          "How and when were the scans acquired (scanner, field strength, sequence), and without knowledge of the "
          "outcome?", scans.acquisition),
    item("Methods: Predictors", "9c", "Who judged the predictors, where they need judgement",
          "Who judged or corrected the predictors by hand, and with which qualification?", model.judgement),
    item("Methods: Sample size", "10", "How the number of people was arrived at, and why it is enough",
          "How was the number of people arrived at, for training and for testing, and why is it enough?",
          performance.size),
    item("Methods: Missing data", "11", "How handled, and why anything was left out",
          "Why are values missing, and whom or what was left out before the manifest was written?", data.missing),
    item("Methods: Analytical methods", "12a", "How the data were used and split",
          "How were scans assigned to the splits (at random, by site, by date)?", data.partition),
    item("Methods: Analytical methods", "12b", "How predictors enter the model",
          "How do the predictors enter the model?", performance.handling, whole=True, scored=True),
    item("Methods: Analytical methods", "12c", "Type of model, all steps of building and tuning, internal validation",
          "Why this type of model, and which other settings were tried before this run?", model.building),
    item("Methods: Analytical methods", "12d", "Differences between clusters such as hospitals: how handled",
          "How were differences between sites handled?", performance.clusters, whole=True, scored=True),
    item("Methods: Analytical methods", "12e", "Measures and plots of performance, and why these",
          "Why these measures, and was clinical utility looked at?", performance.measures_and_intervals, scored=True),
    item("Methods: Analytical methods", "12f", "Updating of the model after its evaluation, such as recalibration",
          "Was the model updated or recalibrated?", performance.updating, whole=True, scored=True),
    item("Methods: Analytical methods", "12g", "How predictions were calculated in the evaluation",
          "How were predictions calculated?", performance.calculation, whole=True, scored=True),
    item("Methods: Class imbalance", "13", "Methods for imbalanced classes",
          "Was anything done about imbalanced classes, and why?", model.imbalance, whole=True),
    item("Methods: Fairness", "14", "What was done for fairness, and why",
          "What was done so that the model serves all groups of people alike, and why?", model.fairness),
    item("Methods: Model output", "15", "What the model gives out; thresholds",
          "What does the model give out?", performance.output, whole=True, scored=True),
    item("Methods: Training versus evaluation", "16", "Differences between development and evaluation data",
          "Do training and test data differ in setting, eligibility or the way age was recorded?", data.differences),
    item("Methods: Ethical approval", "17", "Ethics committee; consent or its waiver",
          "Which committee approved the study (number), and did people consent, or was consent waived?"),
    item("Open science: Funding", "18a", "Funding and role of the funders",
          "Who funded the study, and what part did they have in it?"),
    item("Open science: Conflicts of interest", "18b", "Conflicts of interest of all authors",
          "Which conflicts of interest and financial ties have the authors?"),
    item("Open science: Protocol", "18c", "Where the protocol can be read",
          "Where can the study protocol be read, or was none written?"),
    item("Open science: Registration", "18d", "Registration of the study",
          "Was the study registered, where and under which number?"),
    item("Open science: Data sharing", "18e", "Availability of the data",
          "Who can get the data, where and on which conditions?", model.dataset),
    item("Open science: Code sharing", "18f", "Availability of the analysis code",
          "Where can readers get the recipe and your own scripts?", model.code),
    item("Patient and public involvement", "19", "Part of patients and the public in the study",
          "What part had patients and the public in design, conduct and reporting, or had they none?"),
    item("Results: Participants", "20a", "Flow of people through the study",
          "How many people were eligible, how many were left out, and why? A diagram helps.", data.flow),
    item("Results: Participants", "20b", "Characteristics of the people, by source",
          "Which diagnoses, treatments and other characteristics do the people have, per data source?",
          data.characteristics),
    item("Results: Participants", "20c", "Evaluation beside development data: demographics, predictors, outcome",
          "How do test data compare with training data?", data.comparison, whole=True),
    item("Results: Model development", "21", "Number of people (and events) in each analysis",
          "How many people entered each analysis?", data.analysed, whole=True, scored=True),
    item("Results: Model specification", "22", "The full model, so that others can use it; limits on its use",
          "Where can others get encoder.safetensors, and under which licence?", model.specification),
    item("Results: Model performance", "23a", "Performance with intervals, also in key groups of people",
          "What is the performance in further groups of people that matter here, such as diagnoses?",
          performance.results, scored=True),
    item("Results: Model performance", "23b", "Differences in performance between clusters",
          "How does performance differ between sites?", performance.per_site, whole=True, scored=True),
    item("Results: Model updating", "24", "The updated model and its performance",
          "What are the results of the updated model?", performance.no_updating, scored=True),
    item("Discussion: Interpretation", "25", "What the results mean, fairness included, beside earlier studies",
          "What do the results mean for the objectives, for fairness, and beside earlier studies?",
          discussion.interpretation, scored=True),
    item("Discussion: Limitations", "26", "Limits of the study and what they do to the results",
          "Which further limits has the study (representativeness, sample size, overfitting, missing data), and what "
          "do they do to the results?", discussion.limitations),
    item("Discussion: Usability of the model", "27a", "What to do with poor or missing input",
          "What should a user do with a scan that is poor or unlike the training scans?", model.odd_input),
    item("Discussion: Usability of the model", "27b", "What users have to do, and what they have to know",
          "What do users have to do themselves, and what do they have to know?", model.interaction),
    item("Discussion: Usability of the model", "27c", "Next steps of research",
          "What are the next steps, for applicability and for other settings?"),
)  # fmt: skip


def _marked(one: Item) -> Item:
    """The item with its mark of development or evaluation."""
    return replace(one, applies="D" if one.number in _DEVELOPMENT else "E" if one.number in _EVALUATION else "D;E")


TRIPOD_AI = Checklist(
    name="tripod-ai",
    title="TRIPOD+AI",
    citation="Collins GS, Moons KGM, Dhiman P, et al. TRIPOD+AI statement: updated guidance for reporting clinical "
    "prediction models that use regression or machine learning methods. BMJ 2024;385:e078378",
    doi="10.1136/bmj-2023-078378",
    verified="Numbers, order and the marks D and E were compared in November 2026 with two independent transcriptions "
    "of Table 2 of the statement; the statement itself could not be opened.",
    items=tuple(map(_marked, _ITEMS)),
)
